"""What ships cuts texts as the checkpoint's own tokenizer.json does, or the checkpoint is refused by name."""

import json

import pytest
from tokenizers import Tokenizer

from stages.core.errors import InputError
from stages.measure.edges import EDGES
from stages.models import checkpoint, importing
from stages.tasks.classify.model import HEAD
from tests.toys import bundle as toy
from tests.toys.classifiers import LABELS, LIMITS

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)


@pytest.fixture
def outside(tmp_path, make_model):
    """Write a checkpoint whose tokenizer files are given; rows of its embedding beside them."""

    def write(content=None, rows=16, family="bert", files=(), **config):
        out = tmp_path / "outside"
        out.mkdir(exist_ok=True)
        make_model(family, vocab_size=rows, pad_token_id=0).save_pretrained(out)
        bert = toy.tokenizer_config() | {"tokenizer_class": "BertTokenizer", "model_max_length": 16}
        written = {"tokenizer_config.json": bert | config, "tokenizer.json": content or toy.tokenizer(), **dict(files)}
        for name, found in written.items():
            text = found if isinstance(found, str) else json.dumps(found)
            (out / name).write_text(text, encoding="utf-8")
        return out

    return write


def read(directory):
    return importing.read(directory, LABELS, 8, LIMITS, HEAD)


def reloaded(directory, tmp_path):
    """Take a checkpoint in, save it as the teacher's stage does, and load it as the next stage does."""
    model, tokenizer = read(directory)
    (tmp_path / "teacher").mkdir()
    checkpoint.save(model, tokenizer, tmp_path / "teacher")
    return checkpoint.load_tokenizer(tmp_path / "teacher")


def spliced(**parts):
    return toy.tokenizer() | parts


STOCK = toy.tokenizer()
BERT, SPECIAL = STOCK["normalizer"], STOCK["added_tokens"]
URL = {"content": "<url>", **FLAGS}


def around(first, last):
    return {"type": "BertProcessing", "cls": [first, toy.WORDS.index(first)], "sep": [last, toy.WORDS.index(last)]}


OWN_MEANING = {
    "a cased file under BERT's class": toy.tokenizer(lowercase=False),
    "accents kept": toy.tokenizer(strip_accents=False),
    "Chinese in one piece": toy.tokenizer(handle_chinese_chars=False),
    "control characters kept": toy.tokenizer(clean_text=False),
    "another normaliser": spliced(normalizer={"type": "Lowercase"}),
    "two normalisers": spliced(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, BERT]}),
    "another pre-tokenizer": spliced(pre_tokenizer={"type": "WhitespaceSplit"}),
    "the older post-processor": spliced(post_processor=around("[CLS]", "[SEP]")),
    "other tokens around a text": spliced(post_processor=around("[SEP]", "[MASK]")),
    "words of four letters": spliced(model=STOCK["model"] | {"max_input_chars_per_word": 4}),
    "an added token": spliced(added_tokens=[*SPECIAL, URL | {"id": 14}]),
    "an added word of the vocabulary": spliced(added_tokens=[*SPECIAL, URL | {"content": "lamp", "id": 7}]),
}
"""What a tokenizer.json may say that BERT's class does not."""


@pytest.mark.parametrize("name", OWN_MEANING)
def test_what_the_file_says_is_what_every_later_stage_reads(name, outside, tmp_path):
    """Under `BertTokenizer`, from which transformers 5 would rebuild most of these."""
    directory = outside(OWN_MEANING[name])
    own, found = Tokenizer.from_file(str(directory / "tokenizer.json")), reloaded(directory, tmp_path)
    for text in (*EDGES.values(), "HELLO Café", "two  spaces", "see<url>now <URL> lamps"):
        assert found(text).input_ids == own.encode(text).ids, text


def test_an_albert_file_that_is_not_like_its_class_counts_too(outside, tmp_path):
    """The class would take accents and capitals away."""
    pieces = [*((word, 0.0) for word in toy.WORDS[:5]), *((letter, -1.0) for letter in "▁HELOabé")]
    model = {"type": "Unigram", "unk_id": 1, "vocab": pieces, "byte_fallback": False}
    rules = {"normalizer": {"type": "NFKC"}, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}, "model": model}
    directory = outside(spliced(**rules, decoder=None), family="albert", tokenizer_class="AlbertTokenizer")
    own, found = Tokenizer.from_file(str(directory / "tokenizer.json")), reloaded(directory, tmp_path)
    assert found("HELLO é").input_ids == own.encode("HELLO é").ids
    assert found("HELLO é").tokens() == ["[CLS]", "▁", "H", "E", "L", "L", "O", "▁", "é", "[SEP]"]


def test_limits_baked_into_the_file_do_not_ship(outside, tmp_path):
    padding = {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
    cut = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    found = reloaded(
        outside(spliced(padding=padding | {"pad_type_id": 0, "pad_token": "[PAD]"}, truncation=cut)), tmp_path
    )
    assert (found.backend_tokenizer.padding, found.backend_tokenizer.truncation) == (None, None)
    assert found("hello world").input_ids == [2, 5, 6, 3]


def test_a_vocabulary_without_rules_gets_those_of_its_class_and_settings(outside, tmp_path):
    directory = outside(files={"vocab.txt": "".join(f"{word}\n" for word in toy.WORDS)}, do_lower_case=False)
    (directory / "tokenizer.json").unlink()
    found = reloaded(directory, tmp_path)
    assert found("hello HELLO").input_ids == [2, 5, 1, 3]


def test_the_config_takes_over_the_padding_token_that_texts_are_padded_with(outside):
    content = toy.tokenizer()
    ids = content["model"]["vocab"]
    ids["[PAD]"], ids["cafe"] = ids["cafe"], ids["[PAD]"]
    for token in content["added_tokens"]:
        token["id"] = ids[token["content"]]
    content["added_tokens"].sort(key=lambda token: token["id"])
    model, tokenizer = read(outside(content))
    assert tokenizer.pad_token_id == model.config.pad_token_id == 13


def cut(direction, length):
    return {"truncation": {"direction": direction, "max_length": length, "strategy": "LongestFirst", "stride": 0}}


def bpe():
    vocabulary = {word: index for index, word in enumerate(toy.WORDS)}
    return {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": "[UNK]"}


def second_segment():
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 1}}, {"Sequence": {"id": "A", "type_id": 1}}]
    return {"post_processor": STOCK["post_processor"] | {"single": single}}


REFUSED = {
    "cut on the left": (
        {"truncation_side": "left"},
        {},
        "tokenizer_config.json' cuts long texts at their beginning",
    ),
    "cut on the left by the file": (
        {},
        cut("Left", 16),
        r"tokenizer.json' cuts long texts at their beginning \(truncation_side: left\)",
    ),
    "padded on the left": (
        {"padding_side": "left"},
        {},
        "pads before the text, which moves every position",
    ),
    "shorter than the task's texts": (
        {"model_max_length": 4},
        {},
        r"cuts texts at 4 tokens \(model_max_length\) and the task's max_length is 8",
    ),
    "cut short by the file": (
        {},
        cut("Right", 5),
        r"tokenizer.json' cuts texts at 5 tokens \(truncation.max_length\)",
    ),
    "a length that is none": (
        {"model_max_length": "16"},
        {},
        'has model_max_length: "16"; expected a number',
    ),
    "lower-casing stated and not done": (
        {"do_lower_case": True},
        {"normalizer": BERT | {"lowercase": False}},
        "says do_lower_case: true and the normalizer .* does otherwise",
    ),
    "lower-casing done and denied": ({"do_lower_case": False}, {}, "says do_lower_case: false"),
    "accents": ({"strip_accents": False}, {}, "says strip_accents: false"),
    "Chinese": ({"tokenize_chinese_chars": False}, {}, "says tokenize_chinese_chars: false"),
    "a role of an unknown token": (
        {"sep_token": "</s>"},
        {},
        "names the token '</s>', which the tokenizer has no id for",
    ),
    "an unknown special token": ({"additional_special_tokens": ["<x>"]}, {}, "names the token '<x>'"),
    "special tokens that are no list": (
        {"extra_special_tokens": "<x>"},
        {},
        'has extra_special_tokens: "<x>"; expected a list|cannot load tokenizer',
    ),
    "cut at random": (
        {"tokenizer_class": "TokenizersBackend"},
        {"model": bpe() | {"dropout": 0.5}},
        r"tokenizer.json' cuts texts at random \(model.dropout: 0.5\)",
    ),
    "special tokens cut up": (
        {"split_special_tokens": True},
        {},
        r"transformers makes other ids of '\[MASK\] .* than '.*tokenizer.json' says",
    ),
    "numbered otherwise": (
        {"added_tokens_decoder": {"9": URL}},
        {"added_tokens": [*SPECIAL, URL | {"id": 14}]},
        "gives the token '<url>' the id 9, the tokenizer 14",
    ),
    "no token around a text": ({}, {"post_processor": None}, "puts no token around a text"),
    "another segment": ({}, second_segment(), r"gives a single text the segments \[1\]"),
    "more ids than rows": (
        {},
        {"added_tokens": [*SPECIAL, *(URL | {"content": f"<{i}>", "id": i} for i in (14, 15, 16))]},
        "gives ids up to 16; expected ids below the 16 rows",
    ),
}
"""Settings and rules, and what is said of them."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_bundle_could_do_is_refused_by_name(name, outside):
    settings, parts, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        read(outside(spliced(**parts), **settings))
    assert "\n" not in str(caught.value)


BESIDE = {
    "special_tokens_map.json": (
        {"cls_token": "[SEP]"},
        r"has cls_token '\[CLS\]' and special_tokens_map.json '\[SEP\]'",
    ),
    "added_tokens.json": (
        {"<url>": 14},
        "added_tokens.json' gives the token '<url>' the id 14, the tokenizer None",
    ),
    "vocab.txt": (
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nworld\nhello\n",
        "vocab.txt' gives the token 'world' the id 5, the tokenizer 6",
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_beside_tokenizer_json_that_contradicts_it_is_named(name, outside):
    content, message = BESIDE[name]
    with pytest.raises(InputError, match=message):
        read(outside(files={name: content}))


def test_files_beside_tokenizer_json_that_agree_with_it_are_taken_in(outside):
    content = OWN_MEANING["an added token"]
    files = {
        "added_tokens.json": {"<url>": 14},
        "special_tokens_map.json": {"cls_token": {"content": "[CLS]", **FLAGS}, "unk_token": "[UNK]"},
        "vocab.txt": "".join(f"{word}\r\n" for word in toy.WORDS),
    }
    _, tokenizer = read(outside(content, files=files, added_tokens_decoder={"14": URL}))
    assert tokenizer("<url>").input_ids == [2, 14, 3]


def test_a_setting_that_only_slow_tokenizers_obey_is_refused_where_no_file_says_it(outside):
    directory = outside(files={"vocab.txt": "".join(f"{word}\n" for word in toy.WORDS)}, do_basic_tokenize=False)
    assert read(directory)[1]("HELLO").input_ids == [2, 5, 3]  # tokenizer.json says how
    (directory / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="has do_basic_tokenize: false, which only a slow tokenizer obeys"):
        read(directory)


def test_a_tokenizer_that_cannot_read_every_text_is_refused(outside):
    directory = outside(files={"vocab.txt": "[PAD]\n[CLS]\n[SEP]\n[MASK]\nhello\n"})
    (directory / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"cannot read 'HELLO World': WordPiece error: Missing \[UNK\] token"):
        read(directory)


def test_mobilebert_is_padded_with_no_token_that_texts_contain(outside):
    """It reads the padding after a text, whose embedding is set to zero."""
    with pytest.raises(InputError, match=r"pads with '\[SEP\]', which texts contain"):
        read(outside(family="mobilebert", pad_token="[SEP]"))
    assert read(outside(pad_token="[SEP]"))[1].pad_token_id == 3
