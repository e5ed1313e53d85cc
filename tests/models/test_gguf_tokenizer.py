"""The tokenizer of a GGUF file makes the ids that llama.cpp makes, which it wrote down for these tests."""

import json

import pytest
from transformers import AutoTokenizer

from stages.core.errors import InputError
from stages.measure.edges import EDGES
from stages.models import gguf, gguf_tokenizer
from tests.toys import gguf_files
from tests.toys.classifiers import LIMITS
from tests.toys.gguf_files import LLAMA_CPP, POSITIONS, TOKENS


@pytest.fixture
def unpacked(tmp_path):
    """Write a file with other settings, unpack it, and return the directory."""

    def make(settings=None):
        gguf.unpack(gguf_files.write(tmp_path / "model.gguf", settings=settings), tmp_path, LIMITS)
        return tmp_path

    return make


def read(directory, name):
    return json.loads((directory / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("pre", LLAMA_CPP)
def test_the_tokenizer_makes_of_every_text_what_llama_cpp_makes_of_it(unpacked, pre):
    tokenizer = AutoTokenizer.from_pretrained(unpacked(settings={"tokenizer.ggml.pre": pre}))
    for text, tokens in LLAMA_CPP[pre].items():
        assert tokenizer(text).input_ids == [TOKENS.index(token) for token in tokens], text
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_names_that_llama_cpp_reads_as_one_split_alike_here():
    assert gguf_tokenizer.SPLITS["starcoder"] == gguf_tokenizer.SPLITS["refact"] == gguf_tokenizer.SPLITS["smollm"]
    assert gguf_tokenizer.SPLITS["llama3"] == gguf_tokenizer.SPLITS["llama-v3"] == gguf_tokenizer.SPLITS["llama-bpe"]


def test_the_splits_that_are_told_apart_differ_on_the_texts_they_are_told_apart_by():
    for one, other in (("gpt-2", "smollm"), ("smollm", "llama-bpe"), ("gpt-2", "llama-bpe")):
        assert LLAMA_CPP[one] != LLAMA_CPP[other]


def test_control_tokens_are_special_and_user_defined_ones_are_not(unpacked):
    tokenizer = AutoTokenizer.from_pretrained(unpacked())
    assert tokenizer.decode(tokenizer("a<|im_start|>b<tool>").input_ids, skip_special_tokens=True) == "ab<tool>"
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.unk_token, tokenizer.pad_token) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer.model_max_length == POSITIONS
    messages = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|im_start|>hi<|im_end|>"


def test_templates_with_names_keep_them(unpacked):
    tokenizer = AutoTokenizer.from_pretrained(
        unpacked({"tokenizer.chat_templates": ["tools"], "tokenizer.chat_template.tools": "tools"})
    )
    messages = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|im_start|>hi<|im_end|>"
    assert tokenizer.apply_chat_template(messages, chat_template="tools", tokenize=False) == "tools"


@pytest.mark.parametrize(
    ("settings", "before", "behind"),
    [
        ({"tokenizer.ggml.add_bos_token": None}, [], []),
        ({"tokenizer.ggml.add_bos_token": True}, [1], []),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}, [1], [2]),
        ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": None}, [1], []),
        ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False}, [], []),
    ],
)
def test_the_token_before_a_text_is_added_as_the_file_says_or_else_as_llama_cpp_does(
    unpacked, settings, before, behind
):
    directory = unpacked(settings=settings)
    assert read(directory, "tokenizer_config.json")["add_bos_token"] == bool(before)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    for text in ("ab", *EDGES.values()):
        alone = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer(text).input_ids == [*before, *alone, *behind]


def test_a_file_without_template_or_padding_has_none(unpacked):
    directory = unpacked(settings={"tokenizer.chat_template": None, "tokenizer.ggml.padding_token_id": None})
    assert not {"chat_template", "pad_token"} & read(directory, "tokenizer_config.json").keys()
    assert "pad_token_id" not in read(directory, "generation_config.json")


def added(*more):
    """Settings of a file with these user-defined tokens too."""
    tokens = [*TOKENS, *more]
    return {
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [*gguf_files.KINDS, *[4] * len(more)],
    }


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        (("<a", "a>b"), "has the tokens '<a' and 'a>b', which a text can hold overlapping"),
        (("==", "==x"), "has the tokens '==' and '==x', which a text can hold overlapping"),
        (("x=", "==="), "has the tokens 'x=' and '===', which a text can hold overlapping"),
        (("ab" * 60,), r"has \d+ control and user-defined tokens, the longest of 120 letters"),
    ],
)
def test_tokens_that_a_text_can_hold_overlapping_are_refused(more, refusal):
    settings = {**gguf_files.SETTINGS, **added(*more)}
    with pytest.raises(InputError, match=refusal):
        gguf_tokenizer.build("x.gguf", settings, settings["llama.vocab_size"], POSITIONS)


def test_of_runs_of_one_letter_the_longest_is_taken_first():
    settings = {**gguf_files.SETTINGS, **added("  ", "    ")}
    rules = gguf_tokenizer.build("x.gguf", settings, settings["llama.vocab_size"], POSITIONS).rules
    assert rules.encode("a" + 7 * " " + "b").tokens == ["a", "    ", "  ", "\u0120", "b"]
