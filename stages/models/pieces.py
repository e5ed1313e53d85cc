"""Keep some pieces of a vocabulary: their rows of the table, and the tokenizer that knows no others.

A word that loses its piece falls to shorter ones, character by character if need be.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.errors import ConfigError, Unsupported
from stages.measure import meaning
from stages.models import checkpoint
from stages.models.encode import Encoded, encode
from stages.models.families import family_of

# Names of ids in a config: `pad_token_id`, `bos_token_id`, …
ID_SUFFIX = "_token_id"


def count(encoded: Encoded, size: int) -> NDArray[np.int64]:
    """Count how often each id occurs in the texts: int64 [size]."""
    return np.bincount(encoded.input_ids[encoded.attention_mask == 1], minlength=size).astype(np.int64)


def indispensable(tokenizer: Any, size: int) -> NDArray[np.bool_]:
    """Say which pieces words cannot do without: single characters and special tokens, bool [size].

    Raises:
        Unsupported: see `rewrite_tokenizer`.
    """
    prefix = _rules(tokenizer)["model"].get("continuing_subword_prefix") or ""
    pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
    characters = np.array([len((piece or "").removeprefix(prefix)) == 1 for piece in pieces])
    special = np.isin(np.arange(size), [*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder])
    return np.asarray(characters | special, bool)


def choose(tokenizer: Any, train: Encoded, pool: Encoded, size: int, most: int) -> NDArray[np.int64]:
    """Choose the pieces that texts use most: ids, ascending.

    Args:
        tokenizer: of the texts.
        train: texts whose pieces come first.
        pool: texts whose pieces come next.
        size: rows of the table.
        most: pieces to keep, fewer where the texts use fewer.

    Raises:
        ConfigError: more cannot be done without.
        Unsupported: see `rewrite_tokenizer`.
    """
    used, beside = count(train, size), count(pool, size)
    # Of characters that no text has one in a thousand is ever read: a word with such a one is unknown.
    needed = indispensable(tokenizer, size) & ((beside > 0) | _plain(tokenizer, size))
    if needed.sum() > most:
        raise ConfigError(
            f"student.pieces is {most}", expected=f"{needed.sum()} or more: characters and special tokens"
        )
    order = np.lexsort((np.arange(size), -beside, -used, ~needed))
    kept = order[: min(most, int((needed | (beside > 0)).sum()))]
    return np.sort(kept)


def recut(tokenizer: Any, rewritten: Any, encoded: Encoded, kept: NDArray[np.int64], size: int) -> Encoded:
    """Cut texts anew that have pieces which are no longer there; ids of the others are renumbered.

    WordPiece takes the longest piece that fits, so a text all of whose pieces stay is cut as before.

    Args:
        tokenizer: by which they are encoded.
        rewritten: of `rewrite_tokenizer`.
        encoded: the texts, padded with a piece that stays.
        kept: ids that stay, ascending.
        size: rows of the table.
    """
    renumbered = np.full(size, -1, np.int32)
    renumbered[kept] = np.arange(len(kept), dtype=np.int32)
    ids, mask = renumbered[encoded.input_ids], encoded.attention_mask.copy()
    lost = np.flatnonzero((ids < 0).any(axis=1))
    if len(lost):
        bodies = [
            encoded.input_ids[row, 1 : length - 1] for row, length in zip(lost, encoded.lengths[lost], strict=True)
        ]
        texts = tokenizer.batch_decode(bodies, clean_up_tokenization_spaces=False)
        again = encode(rewritten, texts, ids.shape[1])
        ids[lost], mask[lost] = again.input_ids, again.attention_mask
    return Encoded(ids, mask, encoded.truncated)


def _plain(tokenizer: Any, size: int) -> NDArray[np.bool_]:
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
    return np.array([(piece or "").isascii() or index in special for index, piece in enumerate(pieces)])


def keep_rows(model: Any, kept: NDArray[np.int64]) -> None:
    """Cut the embedding down to some rows, and renumber the ids that the config names.

    Args:
        model: the checkpoint, changed in place.
        kept: old ids, ascending; the place of each is its new id.

    Raises:
        Unsupported: the padding would get another id, in a family that counts positions from it.
    """
    table, renumbered = model.get_input_embeddings(), _renumbering(kept)
    pad = model.config.pad_token_id
    if family_of(model.config).padded_positions and renumbered.get(pad) != pad:
        raise Unsupported(f"padding would move from id {pad}, which positions are counted from", expected="id 0 or 1")
    table.weight = torch.nn.Parameter(table.weight.detach()[torch.from_numpy(kept)].clone())
    table.num_embeddings = len(kept)
    table.padding_idx = renumbered.get(table.padding_idx)
    config = model.config
    config.vocab_size = len(kept)
    for name, value in vars(config).items():
        if name.endswith(ID_SUFFIX) and isinstance(value, int):
            setattr(config, name, renumbered.get(value))


def rewrite_tokenizer(tokenizer: Any, kept: NDArray[np.int64]) -> Any:
    """Make a tokenizer that knows only some pieces, under new ids.

    Args:
        tokenizer: a fast one.
        kept: old ids, ascending, those of added tokens among them; the place of each is its new id.

    Raises:
        Unsupported: its model is neither WordPiece nor WordLevel: merges and scores cannot be cut by use alone.
    """
    with TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        rules = meaning.pruned(_rules(tokenizer), _renumbering(kept))
        (Path(scratch) / "tokenizer.json").write_text(json.dumps(rules, ensure_ascii=False), encoding="utf-8")
        return checkpoint.load_tokenizer(Path(scratch))


def _rules(tokenizer: Any) -> dict[str, Any]:
    rules = meaning.rules_of(tokenizer.backend_tokenizer)
    kind = rules["model"]["type"]
    if kind not in ("WordPiece", "WordLevel"):
        raise Unsupported(
            f"cannot prune the vocabulary of a '{kind}' tokenizer",
            expected="WordPiece or WordLevel: merges and scores cannot be cut by use alone",
        )
    return rules


def _renumbering(kept: NDArray[np.int64]) -> dict[Any, int]:
    return {int(old): new for new, old in enumerate(kept)}
