"""Make the tokenizer of a GGUF file that has SentencePiece's vocabulary: pieces with scores, the best merged first.

`tokenizers` merges by rank. Pieces with scores of their own have one order by both. Llama 2's runs of spaces share a
score, so that the leftmost merges first; in the order of RUNS the ranks do the same. With that its vocabulary gave the
ids of the `sentencepiece` package and of llama.cpp (commit 0c1e57098) for 320,000 texts, half of them chosen to tell
rank from score. What else shares a score is refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.models.gguf_header import SHOWN

SPACE = "▁"
RUNS = tuple(SPACE * length for length in (2, 4, 8, 16, 3, 5, 6, 7, *range(9, 16)))
BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
LONGEST, MOST_SPLITS = 64, 16  # letters of a piece; ways to make pieces of two others, for each piece


def rules(path: Path, tokens: list[str], scores: Any, mergeable: list[bool], unknown: str | None, prefix: bool) -> Any:
    """Make a `tokenizers.Tokenizer`.

    Args:
        path: how errors name the file.
        tokens: the index is the id.
        scores: of the tokens, as the file has them.
        mergeable: which tokens are found by merging.
        unknown: the token of what has none.
        prefix: whether a space is put before every text.

    Raises:
        InputError: there is not one score for each token, or merging by rank could give other ids than by score.
    """
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    if not isinstance(scores, list) or len(scores) != len(tokens) or not all(map(_finite, scores)):
        raise InputError(f"'{path}' does not have a score for each of its {len(tokens)} tokens")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if missing := sorted(BYTES - vocabulary.keys()):
        raise InputError(f"'{path}' has no token '{missing[0]}'", expected="one for each byte")
    merges = _merges(path, vocabulary, scores, mergeable)
    made = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", SPACE)
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    return made


def _merges(
    path: Path, vocabulary: dict[str, int], scores: list[float], mergeable: list[bool]
) -> list[tuple[str, str]]:
    """Return every way to make a piece of two others, those of the best piece first."""
    found: list[tuple[float, int, str, str]] = []
    sharing: dict[float, set[str]] = {}
    for token, index in vocabulary.items():
        if not mergeable[index] or len(token) < 2:
            continue
        if len(token) > LONGEST or len(found) > MOST_SPLITS * len(vocabulary):
            raise InputError(f"'{path}' has the piece {token[:SHOWN]!r}, long or made in too many ways")
        sharing.setdefault(scores[index], set()).add(token)
        parts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        place = RUNS.index(token) if token in RUNS else 0
        found += [(-scores[index], place, one, two) for one, two in parts if one in vocabulary and two in vocabulary]
    for score, pieces in sharing.items():
        if len(pieces) > 1 and pieces != set(RUNS):
            raise InputError(
                f"'{path}' gives {len(pieces)} pieces ({min(pieces)[:SHOWN]!r}, …) the score {score:g}",
                expected="an order in which pieces merge",
            )
    return [(one, two) for _, _, one, two in sorted(found, key=lambda merge: merge[:2])]


def _finite(score: Any) -> bool:
    return isinstance(score, float) and math.isfinite(score)
