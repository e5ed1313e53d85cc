"""Make the tokenizer of a GGUF file, so that it gives the ids that llama.cpp gives and that its model was trained on.

Of byte-level BPE a GGUF file holds vocabulary and merges, and of how texts are split before them only a name, which
transformers ignores: it reads numbers otherwise for most files. SentencePiece's kind is made in `gguf_pieces`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.models import gguf_pieces as pieces
from stages.models.gguf_header import SHOWN

PREFIX = "tokenizer.ggml."
TEMPLATE, TEMPLATES = "tokenizer.chat_template", "tokenizer.chat_templates"
NAMED = f"{TEMPLATE}."
"""Prefix of the keys of further templates, whose names TEMPLATES lists."""
BYTES, PIECES = "gpt2", "llama"
"""llama.cpp's names of byte-level BPE and of SentencePiece's."""
MODEL, PRE, TOKENS, KINDS, MERGES = (f"{PREFIX}{key}" for key in ("model", "pre", "tokens", "token_type", "merges"))
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Values of `token_type`."""
ALLOWED = {
    BYTES: {NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED},
    # llama.cpp and SentencePiece differ in how they read a text around a user-defined piece, and in unused ones.
    PIECES: {NORMAL, UNKNOWN, CONTROL, BYTE},
}
"""Which kinds a vocabulary may have."""
ROLES = {
    "bos": f"{PREFIX}bos_token_id",
    "eos": f"{PREFIX}eos_token_id",
    "unk": f"{PREFIX}unknown_token_id",
    "pad": f"{PREFIX}padding_token_id",
}
"""Role in transformers → key."""
ENDS = (ROLES["eos"], f"{PREFIX}eot_token_id", f"{PREFIX}eom_token_id")
"""Keys of what ends a text, a turn and a message."""
ADDED = {"bos": f"{PREFIX}add_bos_token", "eos": f"{PREFIX}add_eos_token"}
SCORES, SPACE = f"{PREFIX}scores", f"{PREFIX}add_space_prefix"
MOST_ADDED, LONGEST_ADDED = 10_000, 100
# Would change ids if they were true.
FALSE = (f"{PREFIX}add_sep_token", f"{PREFIX}remove_extra_whitespaces")
# Tokens of other tasks and for filling gaps.
SILENT = re.compile(r"tokenizer\.ggml\.(seperator|cls|mask|prefix|suffix|middle|fim_[a-z]{3})_token_id")
KNOWN = {MODEL, PRE, TOKENS, KINDS, SCORES, SPACE, MERGES, TEMPLATE, TEMPLATES, *FALSE}
KNOWN |= {*ROLES.values(), *ENDS, *ADDED.values()}


@dataclass(frozen=True)
class Split:
    """How texts are split before merges apply, and what follows from the same name."""

    digits: bool = False
    """Every numeral alone, then as GPT-2."""
    pattern: str | None = None
    """Instead of GPT-2's."""
    whole_words: bool = False
    """A piece that is a token is taken as it is, whatever the merges make of it."""
    adds_bos: bool = False
    """Where the file does not say."""


GPT2, DIGITS = Split(), Split(digits=True)
LLAMA3 = Split(
    pattern=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    whole_words=True,
    adds_bos=True,
)
# Of `tokenizer.ggml.pre`; llama.cpp knows some ninety (src/llama-vocab.cpp, src/unicode.cpp, commit 0c1e57098).
# Here are those that were tried against it and whose checkpoints' own tokenizers split so too. For `default`, or none,
# llama.cpp warns and guesses; the tokenizers of Qwen, MPT and OLMo normalise texts first, which it does not.
SPLITS = {
    "gpt-2": GPT2,
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
}


@dataclass(frozen=True)
class Made:
    """A tokenizer."""

    rules: Any
    """A `tokenizers.Tokenizer`."""
    settings: dict[str, Any]
    """Of tokenizer_config.json."""
    roles: dict[str, int]
    """bos, eos, unk, pad, where there is one → id."""
    ends: list[int]
    """Ids that end a generated text, `eos` first."""


def knows(key: str) -> bool:
    """Say whether a setting is one that `build` honours, or known to change no ids."""
    return key in KNOWN or key.startswith(NAMED) or SILENT.fullmatch(key) is not None


def build(path: Path, settings: dict[str, Any], rows: int, max_length: int) -> Made:
    """Make a tokenizer of the settings of a GGUF file.

    Args:
        path: how errors name the file.
        settings: of its header.
        rows: word vectors of the model, each of which must have a token.
        max_length: positions of the model.

    Raises:
        InputError: it is of another kind, splits texts in a way not known to be right, or contradicts itself.
    """
    model = settings.get(MODEL)
    if not isinstance(model, str) or model not in ALLOWED:
        raise InputError(
            f"'{path}' has the tokenizer {str(model)[:SHOWN]!r} ({MODEL})",
            expected=f"'{BYTES}' (byte-level BPE) or '{PIECES}' (SentencePiece's)",
            next_step="take the checkpoint it was made from",
        )
    for key in FALSE:
        if _flag(path, settings, key, False):
            raise InputError(f"'{path}' has {key}: True", expected="false, or none")
    tokens, kinds = _vocabulary(path, settings, rows, ALLOWED[model])
    roles = {role: index for role, key in ROLES.items() if (index := _id(path, settings, key, rows)) is not None}
    ends = [index for key in ENDS if (index := _id(path, settings, key, rows)) is not None]
    if "eos" not in roles:
        raise InputError(f"'{path}' does not say which token ends a text", expected=ROLES["eos"])
    split = _split(path, settings) if model == BYTES else Split(adds_bos=True)
    adds = {role: _flag(path, settings, key, role == "bos" and split.adds_bos) for role, key in ADDED.items()}
    if any(adds[role] and role not in roles for role in adds):
        raise InputError(f"'{path}' adds a token before every text and does not say which", expected=ROLES["bos"])
    if model == BYTES:
        rules = _byte_level(path, settings, tokens, split)
    else:
        unknown = tokens[kinds.index(UNKNOWN)] if UNKNOWN in kinds else None
        prefix = _flag(path, settings, SPACE, True)
        rules = pieces.rules(path, tokens, settings.get(SCORES), [kind == NORMAL for kind in kinds], unknown, prefix)
    _add_frame(path, rules, {role: (tokens[roles[role]], roles[role]) for role in adds if adds[role]})
    _add_tokens(path, rules, tokens, kinds)
    return Made(
        rules,
        {
            **{f"add_{role}_token": wanted for role, wanted in adds.items()},
            **{f"{role}_token": tokens[index] for role, index in roles.items()},
            **_templates(path, settings),
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_length,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
        roles,
        list(dict.fromkeys(ends)),
    )


def _split(path: Path, settings: dict[str, Any]) -> Split:
    pre = settings.get(PRE)
    if not isinstance(pre, str) or pre not in SPLITS:
        raise InputError(
            f"'{path}' has {PRE}: {str(pre)[:SHOWN]!r}, and how that splits texts is not known here to be right",
            expected=f"one of: {', '.join(SPLITS)}",
            next_step="take the checkpoint it was made from",
        )
    if _flag(path, settings, SPACE, False):
        raise InputError(f"'{path}' has {SPACE}: True", expected="false, or none")
    return SPLITS[pre]


def _vocabulary(path: Path, settings: dict[str, Any], rows: int, allowed: set[int]) -> tuple[list[str], list[int]]:
    """Return the tokens and their kinds, one of each for every word vector."""
    tokens, kinds = _texts(path, settings, TOKENS), settings.get(KINDS)
    if not isinstance(kinds, list) or not len(tokens) == len(kinds) == rows:
        found = len(kinds) if isinstance(kinds, list) else "no"
        raise InputError(f"'{path}' has {len(tokens)} tokens, {found} kinds of token and {rows} word vectors")
    if "" in tokens or len(set(tokens)) < len(tokens):
        raise InputError(f"'{path}' has a token twice, or an empty one ({TOKENS})")
    if strange := set(kinds) - allowed:
        raise InputError(f"'{path}' has tokens of kind {min(strange)} ({KINDS})", expected=f"of {sorted(allowed)}")
    return tokens, kinds


def _merges(path: Path, settings: dict[str, Any], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return what is merged, first things first."""
    merges = []
    for text in _texts(path, settings, MERGES):
        left, _, right = text.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise InputError(f"'{path}' merges {text[:SHOWN]!r}, of which its vocabulary lacks a part or the whole")
        merges.append((left, right))
    if len(set(merges)) < len(merges):
        raise InputError(f"'{path}' has a merge twice ({MERGES})")
    return merges


def _byte_level(path: Path, settings: dict[str, Any], tokens: list[str], split: Split) -> Any:
    """Make the rules of byte-level BPE.

    A byte without a token (SmolLM2 has none for U+0004) is dropped, as in llama.cpp; what it stood between may then
    merge, as in the checkpoint's own tokenizer and not in llama.cpp.
    """
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = _merges(path, settings, vocabulary)
    rules = Tokenizer(BPE(vocab=vocabulary, merges=merges, ignore_merges=split.whole_words))
    first: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
    if split.pattern:
        first.append(pre_tokenizers.Split(Regex(split.pattern), "isolated"))
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split.pattern is None)
    rules.pre_tokenizer = pre_tokenizers.Sequence([*first, letters]) if first else letters
    rules.decoder = decoders.ByteLevel()
    return rules


def _add_frame(path: Path, rules: Any, framed: dict[str, tuple[str, int]]) -> None:
    """Have tokens put before (bos) and behind (eos) every text: role → token and id."""
    from tokenizers import processors

    for token, _ in framed.values():
        if ":" in token or token.startswith("$"):  # which have a meaning in a template of `tokenizers`
            raise InputError(f"'{path}' puts the token {token[:SHOWN]!r} beside texts", expected="one without : and $")
    if framed:
        frame = {role: [token] for role, (token, _) in framed.items()}
        single = [*frame.get("bos", []), "$A", *frame.get("eos", [])]
        pair = [*single, *("$B:1" if part == "$A" else f"{part}:1" for part in single)]
        rules.post_processor = processors.TemplateProcessing(single, pair, list(dict(framed.values()).items()))


def _add_tokens(path: Path, rules: Any, tokens: list[str], kinds: list[int]) -> None:
    """Have tokens found in texts before anything is split. They have their ids from the vocabulary."""
    from tokenizers import AddedToken

    special = (CONTROL, UNKNOWN)
    found = {token: kind for token, kind in zip(tokens, kinds, strict=True) if kind in (*special, USER_DEFINED)}
    _check_overlaps(path, [*found])
    rules.add_tokens([AddedToken(one, special=kind in special, normalized=False) for one, kind in found.items()])


def _check_overlaps(path: Path, added: list[str]) -> None:
    """Refuse tokens of which one can begin in another: llama.cpp takes the longest first, `tokenizers` the leftmost.

    Runs of one letter may, of which both take the longest that fits.
    """
    if len(added) > MOST_ADDED or max(map(len, added), default=0) > LONGEST_ADDED:
        raise InputError(
            f"'{path}' has {len(added)} control and user-defined tokens, the longest of {max(map(len, added))} letters",
            expected=f"at most {MOST_ADDED} of at most {LONGEST_ADDED}",
        )
    runs = {token for token in added if len(set(token)) == 1}
    begun = {beginning: token for token in runs for beginning in _beginnings(token)}
    begun_otherwise = {beginning: token for token in added if token not in runs for beginning in _beginnings(token)}
    for token in added:
        for end in (token[cut:] for cut in range(1, len(token))):
            other = begun_otherwise.get(end) or (None if token in runs else begun.get(end))
            if other:
                raise InputError(
                    f"'{path}' has the tokens {token!r} and {other!r}, which a text can hold overlapping",
                    expected="control and user-defined tokens that do not overlap",
                    next_step="take the checkpoint it was made from",
                )


def _beginnings(token: str) -> list[str]:
    return [token[:cut] for cut in range(1, len(token))]


def _templates(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what tokenizer_config.json says of templates: nothing, one, or each with its name."""
    found = {key: value for key, value in settings.items() if key == TEMPLATE or key.startswith(NAMED)}
    for key, value in found.items():
        if not isinstance(value, str):
            raise InputError(f"'{path}' has {key[:SHOWN]}: {str(value)[:SHOWN]}", expected="a text")
    if found.keys() <= {TEMPLATE}:
        return {"chat_template": found[TEMPLATE]} if found else {}
    names = {key: "default" if key == TEMPLATE else key.removeprefix(NAMED) for key in found}
    return {"chat_template": [{"name": names[key], "template": value} for key, value in found.items()]}


def _texts(path: Path, settings: dict[str, Any], key: str) -> list[str]:
    found = settings.get(key)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f"'{path}' has no list of texts '{key}'", expected="a vocabulary with merges")
    return found


def _id(path: Path, settings: dict[str, Any], key: str, rows: int) -> int | None:
    index = settings.get(key)
    if index is not None and not (type(index) is int and 0 <= index < rows):
        raise InputError(f"'{path}' has {key}: {str(index)[:SHOWN]}", expected=f"an id below {rows}")
    return index


def _flag(path: Path, settings: dict[str, Any], key: str, default: bool) -> bool:
    wanted = settings.get(key, default)
    if not isinstance(wanted, bool):
        raise InputError(f"'{path}' has {key}: {str(wanted)[:SHOWN]}", expected="true or false")
    return wanted
