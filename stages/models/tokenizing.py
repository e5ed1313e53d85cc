"""Take in a checkpoint's tokenizer so that whoever reads it later, here or in a bundle, makes the ids of its own file.

transformers 5 builds normaliser, pre-tokenizer and post-processor from the class that tokenizer_config.json names, and
ignores those of tokenizer.json; clients in Rust, JavaScript and Swift read the file. Where they part, the file counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from stages.core.errors import InputError, first_line
from stages.measure.edges import EDGES
from stages.measure.meaning import LIMITS, PARTS, differences, rules_of, vocabulary
from stages.models import chat
from stages.models.checkpoint import load_tokenizer, save_tokenizer
from stages.models.families import family_of
from stages.models.token_settings import check_settings

TOKENIZER = "tokenizer.json"


def take_in(directory: Path, model: Any, max_length: int) -> Any:
    """Load the tokenizer of a checkpoint from outside.

    Args:
        directory: its files, already tried for what they ask of this machine.
        model: the classifier that lies beside it; its config takes over the tokenizer's padding token.
        max_length: the task's, in tokens.

    Returns:
        A fast tokenizer without limits of its own, which cuts every text as `tokenizer.json` says.

    Raises:
        InputError: its files contradict each other, ask for what no bundle does, or do not fit the model.
    """
    loaded = load_tokenizer(directory)
    if not loaded.is_fast:
        raise InputError(f"the tokenizer of '{directory}' is not a fast one", expected="a tokenizer.json")
    own = _own(directory, loaded)
    check_settings(directory, loaded, own, max_length)
    tokenizer = _of_file(loaded, own)
    _check_ids(directory, tokenizer, own)
    _check_saved(directory, tokenizer)
    _check_model(directory, tokenizer, model)
    if tokenizer.chat_template:  # one that cannot be spelt is found here rather than by an app
        chat.spell(tokenizer, "a")
    if family_of(model.config).decoder is None:  # a decoder answers from every position, and never sees padding
        _check_frame(directory, tokenizer)
        _check_padding(directory, tokenizer, model)
    model.config.pad_token_id = tokenizer.pad_token_id  # signatures take it from there
    return tokenizer


def _own(directory: Path, loaded: Any) -> Tokenizer:
    """Read what the file means; where there is a vocabulary alone, what the class makes of it.

    The tokens that have a role are special to transformers whether the file says so or not.
    """
    path = directory / TOKENIZER
    own = Tokenizer.from_file(str(path)) if path.is_file() else Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    known = [token for token in _roles(loaded).values() if own.token_to_id(token) is not None]
    own.add_special_tokens(known)
    return own


def _roles(loaded: Any) -> dict[str, str]:
    return {role: str(token) for role, token in loaded.special_tokens_map.items() if isinstance(token, str)}


def _of_file(loaded: Any, own: Tokenizer) -> Any:
    """Return the tokenizer that transformers made, or one made of the file where they are not the same."""
    if not differences(rules_of(loaded.backend_tokenizer), rules_of(own), PARTS):
        tokenizer = loaded
    else:
        roles = {role: token for role, token in _roles(loaded).items() if own.token_to_id(token) is not None}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=own,
            model_max_length=loaded.model_max_length,
            model_input_names=loaded.model_input_names,
            split_special_tokens=loaded.split_special_tokens,
            chat_template=loaded.chat_template,
            **roles,
        )
    # Both are set at each call of transformers; shipped, they would bind whoever reads the file alone.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _check_ids(directory: Path, tokenizer: Any, own: Tokenizer) -> None:
    own.no_truncation()
    own.no_padding()
    added = [token.content for token in own.get_added_tokens_decoder().values()]
    for text in (*EDGES.values(), "two  spaces", *(f"a{token}b {token} {token.upper()}" for token in added)):
        try:
            found, wanted = tokenizer(text).input_ids, own.encode(text).ids
        except Exception as error:  # tokenizers raises bare Exception, for a vocabulary without its unknown token say
            raise InputError(
                f"the tokenizer of '{directory}' cannot read {text[:20]!r}: {first_line(error)}",
                expected="one that takes every text",
            ) from error
        if found != wanted:
            raise InputError(
                f"transformers makes other ids of {text[:20]!r} than '{directory / TOKENIZER}' says",
                expected="files that agree",
                next_step="remove from tokenizer_config.json what changes them (split_special_tokens, tokenizer_class)",
            )


def _check_saved(directory: Path, tokenizer: Any) -> None:
    """Load it as the next stage will: what does not come back as it was is found here rather than at the gate."""
    with TemporaryDirectory(prefix="tinsmith-tokenizer-") as scratch:
        save_tokenizer(tokenizer, Path(scratch))
        (Path(scratch) / "config.json").write_bytes((directory / "config.json").read_bytes())
        again = load_tokenizer(Path(scratch))
    first = differences(rules_of(again.backend_tokenizer), rules_of(tokenizer.backend_tokenizer), (*PARTS, *LIMITS))
    if first:
        raise InputError(
            f"transformers changes the tokenizer of '{directory}' when it is saved and loaded: {first[0]}",
            next_step="save it with transformers 5 and see what becomes of that",
        )


def _check_frame(directory: Path, tokenizer: Any) -> None:
    """The classifiers answer from the first position, in segment 0."""
    if not tokenizer("").input_ids:
        raise InputError(
            f"the tokenizer of '{directory}' puts no token around a text: the classifier would read its first word "
            "for all of it, and nothing where the text is empty",
            expected="[CLS] … [SEP] or their like in tokenizer.json (post_processor)",
        )
    segments: Mapping[int, None] = dict.fromkeys(tokenizer.backend_tokenizer.encode("a b c").type_ids)
    if set(segments) != {0}:
        raise InputError(
            f"the tokenizer of '{directory}' gives a single text the segments {sorted(segments)}",
            expected="segment 0, the only one that artifacts have",
        )


def _check_model(directory: Path, tokenizer: Any, model: Any) -> None:
    rows = model.get_input_embeddings().num_embeddings
    largest = max(vocabulary(rules_of(tokenizer.backend_tokenizer)).values())
    if largest >= rows:
        raise InputError(
            f"the tokenizer of '{directory}' does not belong to its weights: it gives ids up to {largest}",
            expected=f"ids below the {rows} rows of the word embeddings",
        )


def _check_padding(directory: Path, tokenizer: Any, model: Any) -> None:
    if tokenizer.pad_token_id is None:
        raise InputError(f"the tokenizer of '{directory}' has no padding token", next_step="set its pad_token")
    counted, wanted = family_of(model.config).padded_positions, model.config.pad_token_id
    if counted and tokenizer.pad_token_id != wanted:
        raise InputError(
            f"the tokenizer of '{directory}' pads with id {tokenizer.pad_token_id}, and config.json has pad_token_id: "
            f"{wanted}, which a '{model.config.model_type}' model counts its positions from",
            expected="one id: only who trained it knows which",
        )
    if family_of(model.config).reach(model.config) and tokenizer.pad_token_id in _in_texts(tokenizer):
        raise InputError(
            f"the tokenizer of '{directory}' pads with '{tokenizer.pad_token}', which texts contain",
            expected="a padding token of its own: the model reads the one after a text",
        )


def _in_texts(tokenizer: Any) -> set[int | None]:
    return {tokenizer.unk_token_id, *tokenizer("").input_ids}
