"""Tokenizer files that every client reads as the build does."""

import json

import pytest

from stages.measure.edges import EDGES
from stages.releasing import tokenization
from tests.toys import bundle as toy


@pytest.fixture
def read(tmp_path):
    """Read a checkpoint whose `tokenizer.json` and `tokenizer_config.json` were changed."""

    def changed(content=None, **config):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content or toy.tokenizer()), encoding="utf-8")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(toy.tokenizer_config() | config), encoding="utf-8")
        return tokenization.read(tmp_path, toy.LENGTH)

    return changed


def test_the_class_that_only_transformers_5_knows_never_ships(read):
    config = read().client_config()
    assert config["tokenizer_class"] == "BertTokenizer"
    assert not set(tokenization.LOADING) & set(config)
    settings = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
    assert [config[name] for name in settings] == [True, None, True]
    cased = read(toy.tokenizer(lowercase=False, strip_accents=False)).client_config()
    assert [cased[name] for name in settings] == [False, False, True]


def test_what_is_not_berts_keeps_a_class_that_clients_know_and_gets_the_generic_one_otherwise(read):
    words = toy.tokenizer() | {"normalizer": None}
    assert read(words).client_config()["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert read(words, tokenizer_class="AlbertTokenizer").client_config()["tokenizer_class"] == "AlbertTokenizer"


def test_transformers_makes_the_builds_ids_of_the_files_that_ship_and_no_third_input(read, tmp_path):
    from transformers import AutoTokenizer

    ours = read()
    (tmp_path / "shipped").mkdir()
    tokenization.write(ours, tmp_path / "shipped")
    (tmp_path / "shipped/config.json").write_bytes(toy.checkpoint()["config.json"])
    theirs = AutoTokenizer.from_pretrained(tmp_path / "shipped", local_files_only=True)
    assert type(theirs).__name__ == "BertTokenizer"
    for name, text in {**EDGES, "known": "Wake me up, café songs"}.items():
        assert theirs(text, truncation=True).input_ids == ours.encode(text), name
    assert set(theirs("hello")) == {"attention_mask", "input_ids"}


def test_a_long_text_is_cut_before_the_last_special_token(read):
    ids = read().encode(EDGES["more than any maximum"])
    assert (len(ids), ids[-1]) == (toy.LENGTH, toy.WORDS.index("[SEP]"))


def test_a_vocabulary_file_lists_tokens_by_id_and_gaps_have_none(read, tmp_path):
    tokenization.write(read(), tmp_path)
    assert (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines() == list(toy.WORDS)
    gap = toy.tokenizer()
    gap["model"]["vocab"]["cafe"] += 1
    assert read(gap).vocabulary is None
    assert "gaps" in read(gap).why_not_bert()


def test_special_tokens_are_read_whether_plain_or_spelled_out(read):
    spelled = {"content": "[CLS]", "lstrip": False, "__type": "AddedToken"}
    assert read(cls_token=spelled).special["cls_token"] == ("[CLS]", 2)
    assert read().special["pad_token"] == ("[PAD]", 0)
    assert "bos_token" not in read().special


FLAGS = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word", "special"), False)
URL = {"content": "<url>", "id": len(toy.WORDS), **FLAGS}


def spliced(**parts):
    return toy.tokenizer() | parts


def words(**renamed):
    """The toy's rules with some tokens under other names, at their ids."""
    rules = toy.tokenizer()
    rules["model"]["vocab"] = {renamed.get(word, word): index for word, index in rules["model"]["vocab"].items()}
    return rules


STOCK = toy.tokenizer()
AROUND = {"type": "BertProcessing", "cls": ["[SEP]", 3], "sep": ["[CLS]", 2]}
OTHERS = {
    "not WordPiece": spliced(normalizer=None),
    "keeps control characters": toy.tokenizer(clean_text=False),
    "finds words otherwise": spliced(pre_tokenizer={"type": "WhitespaceSplit"}),
    "word pieces are not marked": spliced(model=STOCK["model"] | {"continuing_subword_prefix": "@@"}),
    "or bounded": spliced(model=STOCK["model"] | {"max_input_chars_per_word": 4}),
    "fall back to another token": spliced(model=STOCK["model"] | {"unk_token": "[MASK]"}),
    "puts other tokens around a text": spliced(post_processor=AROUND),
    "keeps upper case": toy.tokenizer(lowercase=False),
    "keeps accents": toy.tokenizer(strip_accents=False),
    "does not split Chinese": toy.tokenizer(handle_chinese_chars=False),
    'has the added token "<url>"': spliced(added_tokens=[*STOCK["added_tokens"], URL]),
    'added token "lamp"': spliced(added_tokens=[*STOCK["added_tokens"], URL | {"content": "lamp", "id": 7}]),
    "empty or holds a line break": words(lamp="la\nmp"),
    "or holds a line break": words(lamp="lamp\r"),
    "token of the vocabulary is empty": words(lamp=""),
}
"""What a client with a BERT tokenizer of its own would not do → rules that do it."""


@pytest.mark.parametrize("reason", OTHERS)
def test_a_client_with_a_bert_tokenizer_of_its_own_is_left_out_where_it_would_make_other_ids(read, reason):
    assert reason in read(OTHERS[reason]).why_not_bert()


def test_a_client_with_a_bert_tokenizer_of_its_own_is_given_berts(read):
    assert read().why_not_bert() == ""
    older = {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]}
    assert read(spliced(post_processor=older)).why_not_bert() == ""
    assert read(sep_token="[MASK]").why_not_bert() != ""


@pytest.mark.parametrize("reason", OTHERS)
def test_transformers_makes_the_builds_ids_of_every_tokenizer_that_ships(read, reason, tmp_path):
    from transformers import AutoTokenizer

    ours = read(OTHERS[reason])
    (tmp_path / "shipped").mkdir()
    tokenization.write(ours, tmp_path / "shipped")
    (tmp_path / "shipped/config.json").write_bytes(toy.checkpoint()["config.json"])
    theirs = AutoTokenizer.from_pretrained(tmp_path / "shipped", local_files_only=True)
    for name, text in {**EDGES, "known": "Wake me up, see<url>now café LAMPS"}.items():
        assert theirs(text, truncation=True).input_ids == ours.encode(text), name


def test_a_vocabulary_that_lines_cannot_hold_is_not_written_as_lines(read, tmp_path):
    (tmp_path / "shipped").mkdir()
    tokenization.write(read(words(lamp="la\nmp")), tmp_path / "shipped")
    assert sorted(path.name for path in (tmp_path / "shipped").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_word_pieces_are_berts_to_clients_that_take_the_rules_from_the_file(read):
    """swift-transformers takes the generic class for BPE."""
    ours = read(toy.tokenizer(clean_text=False))
    assert ours.client_config()["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert ours.client_config(rules_from_file=True)["tokenizer_class"] == "BertTokenizer"
