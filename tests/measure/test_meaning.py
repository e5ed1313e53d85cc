"""Two tokenizer files are compared by what they do to texts, and a difference is named once."""

import json

import pytest
from tokenizers import Tokenizer

from stages.measure.meaning import PARTS, differences, pruned, vocabulary
from tests.toys import bundle as toy


def edited(path, value):
    rules = toy.tokenizer()
    node = rules
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return rules


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("normalizer", "lowercase"), False, "normalizer.lowercase is false, expected true"),
        (("normalizer",), None, 'normalizer is null, expected {"type": "BertNormalizer", "clean_text": true,'),
        (("pre_tokenizer", "type"), "Whitespace", 'pre_tokenizer.type is "Whitespace", expected "BertPreTokenizer"'),
        (("model", "vocab", "hello"), 6, "model.vocab.hello is 6, expected 5"),
        (("model", "vocab", "##x"), 14, "model.vocab['##x'] should not be there"),
        (("model", "max_input_chars_per_word"), 9, "model.max_input_chars_per_word is 9, expected 100"),
        (("post_processor", "single"), [], "post_processor.single has 0 entries, expected 3"),
        (("decoder", "cleanup"), False, "decoder.cleanup is false, expected true"),
        (("added_tokens", 4, "special"), False, "added_tokens[4].special is false, expected true"),
        (("truncation",), {"max_length": 4}, 'truncation is {"max_length": 4}, expected null'),
        (("padding",), {"length": 4}, 'padding is {"length": 4}, expected null'),
    ],
)  # fmt: skip
def test_a_rule_that_differs_is_named_with_both_values(path, value, said):
    (first,) = differences(edited(path, value), toy.tokenizer())
    assert first.startswith(said)
    assert differences(toy.tokenizer(), toy.tokenizer()) == []


def test_limits_are_left_out_where_only_the_parts_are_asked_for():
    assert differences(edited(("truncation",), {"max_length": 4}), toy.tokenizer(), PARTS) == []


def test_a_pruned_tokenizer_cuts_texts_of_kept_tokens_as_before_under_new_ids(tmp_path):
    rules = toy.tokenizer()
    kept = [index for token, index in vocabulary(rules).items() if token not in ("world", "lamp", "cafe")]
    ids = {old: new for new, old in enumerate(sorted(kept))}
    for name, content in {"all": rules, "kept": pruned(rules, ids)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    before, after = (Tokenizer.from_file(str(tmp_path / f"{name}.json")) for name in ("all", "kept"))
    assert after.encode("HELLO songs wake me").ids == [ids[old] for old in before.encode("HELLO songs wake me").ids]
    assert after.encode("world").tokens == ["[CLS]", "[UNK]", "[SEP]"]
