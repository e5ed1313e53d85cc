import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from stages.core.errors import ConfigError
from stages.data import embedded
from stages.data.embedded import expand, mistype, read_grammar
from stages.data.splits import RAW, normalise
from stages.schema.data import Embedded

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "kind": "embedded", "licence": "Apache-2.0", "seed": 1, "calibration_size": 8, "probe_size": 8,
    "probe": "validation",
    "train_size": 650, "validation_size": 116, "test_size": 290, "typo_rate": 0.1,
}  # fmt: skip


def generated(**changes):
    return embedded.load(Embedded(**(SMALL | changes))).splits


def test_the_grammar_has_at_least_24_labels_and_templates_for_each_split():
    templates = read_grammar().templates
    assert len(templates) >= 24
    assert list(templates) == sorted(templates)
    for label, by_split in templates.items():
        assert all(len(by_split[split]) >= 2 for split in RAW), label


def test_no_validation_or_test_template_is_a_train_template():
    for label, by_split in read_grammar().templates.items():
        lines = [line for split in RAW for line in by_split[split]]
        assert len(lines) == len(set(lines)), label


def test_every_slot_a_template_names_exists():
    grammar = read_grammar()
    lines = [line for by_split in grammar.templates.values() for split in RAW for line in by_split[split]]
    lines += [line for slot in grammar.slots.values() for line in slot]
    assert {name for line in lines for name in re.findall(r"\{(\w+)\}", line)} <= set(grammar.slots)


def test_both_labels_of_a_pair_are_the_same_words_in_another_order():
    grammar = read_grammar()
    first, second = grammar.templates["share_with_family"], grammar.templates["share_with_work"]
    exchanged = [
        line.replace("{family}", "{}").replace("{work}", "{family}").replace("{}", "{work}") for line in first["test"]
    ]
    assert exchanged == second["test"]


def test_sizes_are_as_asked_and_no_text_occurs_twice():
    splits = generated()
    assert [len(splits[name]) for name in RAW] == [650, 116, 290]
    texts = [normalise(example.text) for name in RAW for example in splits[name]]
    assert len(texts) == len(set(texts))


def test_the_grammar_is_a_parent_of_the_data():
    assert embedded.load(Embedded(**SMALL)).files == {"grammar.yaml": embedded.GRAMMAR}


def test_validation_and_test_are_balanced_over_all_labels():
    labels = list(read_grammar().templates)
    splits = generated()
    for split in ("validation", "test"):
        counts = [sum(e.label == label for e in splits[split]) for label in labels]
        assert max(counts) - min(counts) <= 1
        assert min(counts) > 0


def test_resizing_train_leaves_test_as_it_was():
    assert generated(train_size=700)["test"] == generated()["test"]


def test_another_seed_gives_other_sentences():
    assert generated(seed=2)["test"] != generated()["test"]


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed():
    code = (
        "import hashlib;from stages.data import embedded;from stages.schema.data import Embedded;"
        f"splits=embedded.load(Embedded(**{SMALL!r})).splits;"
        "print(hashlib.sha256(repr(splits).encode()).hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_utterances_are_short_words_without_grammar_marks():
    for examples in generated().values():
        for example in examples:
            assert 3 <= len(example.text.split()) <= 20, example
            assert re.fullmatch(r"[a-z' ]+", example.text), example


def test_typos_come_at_about_the_rate_asked_for():
    clean = {word for name in RAW for e in generated(typo_rate=0.0)[name] for word in e.text.split()}
    clean |= {word for e in generated(typo_rate=0.0, train_size=3000)["train"] for word in e.text.split()}
    mistyped = [e for e in generated(typo_rate=0.5)["test"] if not set(e.text.split()) <= clean]
    assert 0.3 < len(mistyped) / 290 < 0.6


def test_a_typo_spares_the_short_words_that_decide():
    for seed in range(50):
        assert mistype("turn it off not on", Random(seed)) == "turn it off not on"
        words = mistype("from my savings", Random(seed)).split()
        assert words[:2] == ["from", "my"]
        assert words[2].startswith("s")


def test_expanding_resolves_slots_options_and_nested_choices():
    slots = {"x": ["(a|[b] c)"]}
    found = {expand("say {x} [twice]", slots, Random(seed)) for seed in range(60)}
    assert found == {f"say {middle}{end}" for middle in ("a", "c", "b c") for end in ("", " twice")}


def test_asking_for_more_than_the_grammar_has_is_refused(monkeypatch):
    templates = {"a": {"train": ["(one|two)"], "validation": ["three"], "test": ["four"]}}
    grammar = embedded.Grammar(frame="{template}", slots={}, templates=templates, weights={"a": 1})
    monkeypatch.setattr(embedded, "read_grammar", lambda: grammar)
    sizes = {"test_size": 1, "validation_size": 1, "typo_rate": 0.0}
    assert sorted(e.text for e in generated(**sizes, train_size=2)["train"]) == ["one", "two"]
    with pytest.raises(ConfigError, match=r"too few train utterances of 'a'; next: lower data\.train_size"):
        generated(**sizes, train_size=3)
