"""Which words a model finds alike: neighbours in its word table.

Source: Jiao et al., TinyBERT (2020), section 3.2 and algorithm 1, which replaces a word by one of its nearest in the
space of GloVe where a masked language model has no single piece to offer; here the teacher's own table is the space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

# What begins a word in the pieces of byte pairs and of SentencePiece; WordPiece marks the pieces that do not.
STARTS = ("Ġ", "▁")
CONTINUES = "##"
ROWS = 2048
"""Words that are compared with all others at once: 0.2 GB of similarities at a vocabulary of 30,000."""


class Near:
    """The words of a tokenizer that are a single piece, and which of them a model finds alike.

    Attributes:
        rows: int64 [pieces] place of each piece in `found`, -1 where it is no word.
        found: int64 [words, neighbours] ids, the nearest first.
        starts: bool [pieces], whether a piece begins a word.
    """

    def __init__(self, model: Any, tokenizer: Any, neighbours: int) -> None:
        """Compare the rows of the model's word table.

        Args:
            model: a Hugging Face model; its input embeddings are the space, centred, by cosine.
            tokenizer: fast, of the model.
            neighbours: how many to find of each word, fewer where there are not so many words.
        """
        table = model.get_input_embeddings().weight.detach()
        pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(range(len(table)))]
        marked = any(piece.startswith(STARTS) for piece in pieces)
        self.starts = np.array([piece.startswith(STARTS) if marked else piece[:2] != CONTINUES for piece in pieces])
        spelled = [piece[1:] if marked else piece for piece in pieces]
        special = np.isin(np.arange(len(pieces)), [*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder])
        whole = np.array([len(text) > 1 and text.isalpha() for text in spelled]) & self.starts & ~special
        words = np.flatnonzero(whole)
        self.rows = np.full(len(pieces), -1, np.int64)
        self.rows[words] = np.arange(len(words))
        self.found = words[_nearest(table[torch.from_numpy(words)], min(neighbours, len(words) - 1))]

    def replace(self, ids: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.bool_]:
        """Replace words of a text in place, each by one of its neighbours.

        Args:
            ids: int64 [tokens], without special ones.
            share: of the words that are a single piece.
            random: source of the choice.

        Returns:
            Where: bool [tokens].
        """
        single = np.append(self.starts[ids[1:]], True)[: len(ids)] & (self.rows[ids] >= 0)
        chosen = single & (random.random(len(ids)) < share) if self.found.size else np.zeros(len(ids), bool)
        rows = self.rows[ids[chosen]]
        ids[chosen] = self.found[rows, random.integers(self.found.shape[1], size=len(rows))] if len(rows) else rows
        return chosen


def _nearest(table: torch.Tensor, neighbours: int) -> NDArray[np.int64]:
    """Return the places of the rows nearest to each, without itself: int64 [rows, neighbours]."""
    if neighbours < 1:
        return np.zeros((len(table), 0), np.int64)
    unit = functional.normalize(table - table.mean(dim=0), dim=1)
    found = []
    for start in range(0, len(unit), ROWS):
        alike = unit[start : start + ROWS] @ unit.T
        alike[torch.arange(len(alike)), torch.arange(start, start + len(alike))] = -torch.inf
        found.append(alike.topk(neighbours, dim=1).indices)
    nearest: NDArray[np.int64] = torch.cat(found).numpy()
    return nearest
