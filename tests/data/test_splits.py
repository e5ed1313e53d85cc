from operator import attrgetter
from random import Random

import pytest

from stages.core.errors import ConfigError, InputError
from stages.data.splits import (
    RAW,
    SPLITS,
    Carved,
    Example,
    carve,
    carve_all,
    check,
    hold_out,
    normalise,
    remove_duplicates,
)

LABEL = attrgetter("label")


def examples(*texts: str, label: str = "a") -> list[Example]:
    return [Example(text, label) for text in texts]


def numbered(label: str, count: int, prefix: str = "") -> list[Example]:
    return [Example(f"{prefix}{label} {index}", label) for index in range(count)]


def three(train, validation, test):
    return dict(zip(RAW, (train, validation, test), strict=True))


def test_normalise_ignores_case_and_whitespace_only():
    assert normalise("  Turn\tit \n ON ") == normalise("turn it on")
    assert normalise("STRASSE") == normalise("straße")
    assert normalise("turn it on") != normalise("turn it on!")


def test_a_test_text_is_removed_from_validation_and_train_and_counted():
    splits, found = remove_duplicates(
        three(examples("x", "keep", "v"), examples(" X ", "v"), examples("X", "other")), LABEL
    )
    assert [e.text for e in splits["train"]] == ["keep"]
    assert [e.text for e in splits["validation"]] == ["v"]
    assert [e.text for e in splits["test"]] == ["X", "other"]
    assert found["removed_from_train"] == 2
    assert found["removed_from_validation"] == 1
    assert found["shared_by_train_and_test"] == 1
    assert found["shared_by_train_and_validation"] == 2
    assert found["shared_by_validation_and_test"] == 1


def test_repeats_inside_train_go_and_repeats_inside_test_stay():
    splits, found = remove_duplicates(three(examples("x", "X", "y"), examples("v"), examples("t", "T")), LABEL)
    assert [e.text for e in splits["train"]] == ["x", "y"]
    assert [e.text for e in splits["test"]] == ["t", "T"]
    assert (found["within_train"], found["within_test_kept"]) == (1, 1)


def test_one_text_with_two_labels_is_reported_wherever_the_two_stand():
    raw = three(examples("x", "y"), examples("v"), [Example("X", "b"), Example("y", "a")])
    raw["train"].append(Example("z", "b"))
    _, found = remove_duplicates({**raw, "train": [*raw["train"], Example("other", "a")]}, LABEL)
    assert found["contradicting_labels"] == 1
    assert found["contradicting_examples"] == {"x": ["a", "b"]}


def test_train_that_is_all_in_test_is_refused():
    with pytest.raises(InputError, match="no train utterance is left"):
        remove_duplicates(three(examples("x"), examples("v"), examples("x")), LABEL)


def test_a_label_that_duplicates_take_out_of_train_is_refused():
    with pytest.raises(InputError, match="train keeps no utterance of 'b' once duplicates"):
        remove_duplicates(three([*examples("x"), Example("y", "b")], examples("v"), [Example("y", "b")]), LABEL)


@pytest.mark.parametrize("split", RAW)
def test_an_empty_split_is_refused(split):
    splits = three([*examples("x"), Example("y", "b")], examples("v"), examples("t")) | {split: []}
    with pytest.raises(InputError, match=f"the {split} split is empty"):
        check(splits)


def test_carving_keeps_each_labels_share_within_one():
    data = numbered("a", 100) + numbered("b", 50) + numbered("c", 10)
    left, taken = carve(data, 32, Random(3), LABEL)
    counts = {label: sum(e.label == label for e in taken) for label in "abc"}
    for label, total in (("a", 100), ("b", 50), ("c", 10)):
        assert abs(counts[label] - 32 * total / 160) <= 1
    assert sorted(left + taken) == sorted(data)
    assert not set(left) & set(taken)


def test_carving_fewer_than_there_are_labels_takes_no_label_twice():
    data = [example for index in range(20) for example in numbered(f"label{index}", 5)]
    _, taken = carve(data, 7, Random(0), LABEL)
    assert len({e.label for e in taken}) == 7


def test_carving_leaves_a_label_of_one_utterance_in_train():
    left, _ = carve(numbered("a", 30) + numbered("rare", 1), 10, Random(0), LABEL)
    assert "rare" in {e.label for e in left}


def test_calibration_comes_from_train_and_probe_from_validation():
    raw = three(numbered("a", 20) + numbered("b", 20), numbered("a", 20, "v"), numbered("a", 5, "t"))
    splits, carved = carve_all(raw, LABEL, calibration_size=6, probe_size=4, seed=1)
    assert list(splits) == list(SPLITS)
    assert [len(splits[name]) for name in SPLITS] == [34, 16, 5, 6, 4]
    assert carved == {"calibration": Carved("train", 6, 6, 40), "probe": Carved("validation", 4, 4, 20)}
    assert set(splits["calibration"]) < set(raw["train"])
    assert set(splits["probe"]) < set(raw["validation"])
    texts = [e.text for name in SPLITS for e in splits[name]]
    assert len(texts) == len(set(texts))


def test_another_seed_carves_other_utterances():
    raw = three(numbered("a", 50) + numbered("b", 50), numbered("a", 20, "v"), numbered("a", 5, "t"))
    first, second = (carve_all(raw, LABEL, calibration_size=9, probe_size=4, seed=seed)[0] for seed in (1, 2))
    assert first["calibration"] != second["calibration"]


@pytest.mark.parametrize(("name", "source"), [("calibration", "train"), ("probe", "validation")])
def test_a_size_that_leaves_nothing_is_refused_with_the_most_possible(name, source):
    raw = three(numbered("a", 6), numbered("a", 6, "v"), numbered("a", 6, "t"))
    sizes = {"calibration_size": 2, "probe_size": 2} | {f"{name}_size": 6}
    with pytest.raises(ConfigError, match=f"data.{name}_size is 6, but {source} has 6 .*at most 5"):
        carve_all(raw, LABEL, **sizes, seed=0)


def test_a_calibration_that_takes_a_whole_label_is_refused():
    raw = three(numbered("a", 2) + numbered("b", 1), numbered("a", 6, "v"), numbered("a", 6, "t"))
    with pytest.raises(InputError, match="once calibration are taken out|once calibration"):
        carve_all(raw, LABEL, calibration_size=2, probe_size=1, seed=0)


def test_a_small_data_set_is_asked_for_less_and_validation_keeps_half():
    raw = three(numbered("a", 160) + numbered("b", 160), numbered("a", 40, "v") + numbered("b", 40, "v"), examples("t"))
    splits, carved = carve_all(raw, LABEL, calibration_size=128, probe_size=64, seed=0)
    assert carved == {"calibration": Carved("train", 80, 128, 320), "probe": Carved("train", 64, 64, 240)}
    assert str(carved["calibration"]) == "80 of 320 train utterances, 128 were asked for"
    assert [len(splits[name]) for name in SPLITS] == [176, 80, 1, 80, 64]
    texts = [e.text for name in SPLITS for e in splits[name]]
    assert len(texts) == len(set(texts))


def test_no_size_is_lowered_below_what_gates_ask_for():
    raw = three(numbered("a", 130) + numbered("b", 130), numbered("a", 130, "v"), examples("t"))
    _, carved = carve_all(raw, LABEL, calibration_size=100, probe_size=100, seed=0)
    assert [one.taken for one in carved.values()] == [65, 64]


def test_a_missing_validation_split_is_held_out_of_train_with_every_label():
    train = numbered("a", 100) + numbered("b", 40) + numbered("a", 100)
    splits = hold_out({"train": train, "test": examples("a 0")}, "validation", 0.2, seed=1, stratum=LABEL)
    validation = splits["validation"]
    assert len(validation) == round(0.2 * 139)
    assert {e.label for e in validation} == {"a", "b"}
    assert {e.text for e in validation}.isdisjoint(e.text for e in [*splits["train"], *splits["test"]])
    assert {e.text for e in [*validation, *splits["train"]]} == {e.text for e in train}
    assert (
        hold_out({"train": train, "test": examples("a 0")}, "validation", 0.2, seed=2, stratum=LABEL)["validation"]
        != validation
    )


def test_one_file_is_enough_for_three_disjoint_splits():
    train = numbered("a", 100) + numbered("b", 40) + numbered("a", 100)
    tested = hold_out({"train": train}, "test", 0.2, seed=1, stratum=LABEL)
    splits = hold_out(tested, "validation", 0.2, seed=1, stratum=LABEL)
    texts = {name: {example.text for example in split} for name, split in splits.items()}
    assert texts["test"] == {example.text for example in tested["test"]}
    assert len(texts["test"]) == len(splits["test"]) == round(0.2 * 140)
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())) == 140
    assert all({example.label for example in split} == {"a", "b"} for split in splits.values())


def test_a_validation_split_cannot_be_made_of_test_texts():
    with pytest.raises(InputError, match="no train utterance is left for validation"):
        hold_out({"train": examples("x"), "test": examples("X")}, "validation", 0.5, seed=0, stratum=LABEL)
