"""Drop the rows of the embedding that training texts hardly use, with the tokenizer rewritten to match, then recover.

A word that loses its piece falls to shorter pieces, character by character if need be: single characters stay. Where a
character has no piece at all, the word becomes the unknown token, as before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.compression import Outcome
from stages.core.errors import ConfigError, Unsupported
from stages.measure import meaning
from stages.models import checkpoint
from stages.models.examples import Examples
from stages.models.families import family_of
from stages.models.recovery import Utterances, before, recover
from stages.schema.compression import PruneVocabulary

SPLITS = ("train", "validation")

# Names of ids in a config: `pad_token_id`, `bos_token_id`, …
ID_SUFFIX = "_token_id"


def apply(model: Any, tokenizer: Any, splits: Mapping[str, Examples], params: PruneVocabulary) -> Outcome:
    """Prune the vocabulary of `model` in place and recover.

    Args:
        model: the checkpoint.
        tokenizer: its fast tokenizer, of WordPieces or whole words; left as it is.
        splits: `train` counts and recovers, `validation` is only reported on; both are encoded again.
        params: how often a piece must occur to stay.

    Raises:
        Unsupported: a tokenizer of another kind.
        ConfigError: every piece stays.
    """
    used = count(splits["train"], model.get_input_embeddings().num_embeddings)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(used))))
    prefix = _rules(tokenizer)["model"].get("continuing_subword_prefix") or ""
    characters = np.array([len((piece or "").removeprefix(prefix)) == 1 for piece in pieces])
    special = np.isin(np.arange(len(used)), [*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder])
    kept = np.flatnonzero((used >= params.min_count) | characters | special)
    if len(kept) == len(used):
        raise ConfigError(f"each of {len(used)} pieces occurs {params.min_count} times", expected="a larger min_count")
    known = before(model, splits, params.recovery)
    if known.guidance is not None and not known.guidance.by_text:
        known = replace(known, guidance=None)  # what a token was answered says nothing of the pieces it falls to
    rewritten = rewrite_tokenizer(tokenizer, kept)
    keep_rows(model, kept)
    again = {name: _encoded(rewritten, split) for name, split in splits.items()}
    notes, history = recover(model, rewritten, again, params.recovery, known)
    counts = {"pieces_before": len(used), "pieces": len(kept), "tokens_changed": _changed(splits, again, kept)}
    return Outcome(model, {**counts, **notes}, history, tokenizer=rewritten)


def count(train: Examples, size: int) -> NDArray[np.int64]:
    """Count how often each id occurs in the texts: int64 [size]."""
    encoded = train.encoded
    return np.bincount(encoded.input_ids[encoded.attention_mask == 1], minlength=size).astype(np.int64)


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


def _encoded(tokenizer: Any, split: Examples) -> Examples:
    assert isinstance(split, Utterances)
    return split.encode(tokenizer)


def _changed(
    splits: Mapping[str, Examples], again: Mapping[str, Examples], kept: NDArray[np.int64]
) -> dict[str, float]:
    """Share of a split's texts that are cut into other pieces than before."""
    return {
        name: float((kept[again[name].encoded.input_ids] != split.encoded.input_ids).any(axis=1).mean())
        for name, split in splits.items()
    }
