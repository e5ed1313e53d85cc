import json
import re
from pathlib import Path

import pytest
import yaml

from stages import prepare
from stages.core import artifact, splits
from stages.core.errors import ConfigError
from stages.core.params import parse
from stages.data.splits import SPLITS, normalise

ROOT = Path(__file__).resolve().parents[1]
TASK = {"name": "classify", "max_length": 32, "sequence_lengths": [16, 32]}
EMBEDDED = {
    "kind": "embedded", "licence": "Apache-2.0", "seed": 1, "calibration_size": 29, "probe_size": 10,
    "probe": "validation",
    "train_size": 700, "validation_size": 120, "test_size": 150, "typo_rate": 0.1,
}  # fmt: skip


def settings(**data):
    return parse(prepare.Params, {"task": TASK, "data": EMBEDDED | data}, "params.yaml")


def jsonl_settings(directory, train, validation, test):
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (directory / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = {
        "kind": "jsonl", "licence": "x", "seed": 0, "canaries": [], "calibration_size": 1, "probe_size": 1,
        "probe": "validation",
        "text_column": "text", "label_column": "label", "validation_share": 0.1, "test_share": 0.2,
        **{name: str(directory / f"{name}.jsonl") for name in ("train", "validation", "test")},
    }  # fmt: skip
    return parse(prepare.Params, {"task": TASK, "data": data}, "params.yaml")


def rows_of(directory, split):
    return [json.loads(line) for line in (directory / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "data"
    prepare.run(settings(), out)
    return out


def test_the_output_is_what_the_contract_says(written):
    artifact.require(written)
    names = {path.name for path in written.iterdir()}
    assert names == {*(f"{split}.jsonl" for split in SPLITS), "labels.json", "summary.json", "manifest.json"}
    assert all(set(row) == {"text", "label"} for row in rows_of(written, "test"))
    labels = json.loads((written / "labels.json").read_text(encoding="utf-8"))
    assert labels == sorted({row["label"] for row in rows_of(written, "train")})


def test_a_synthetic_probe_carries_nobodys_text_and_no_label(written, tmp_path):
    prepare.run(settings(probe="synthetic"), tmp_path / "data")
    probe = rows_of(tmp_path / "data", "probe")
    real = {normalise(row["text"]) for split in SPLITS for row in rows_of(written, split)}
    assert len({normalise(row["text"]) for row in probe} - real) == len(probe) == 10
    assert {row["label"] for row in probe} == {None}
    assert splits.read_split(tmp_path / "data", "probe").labels == [None] * 10
    for split in set(SPLITS) - {"probe"}:
        assert rows_of(tmp_path / "data", split) == rows_of(written, split)


def test_the_five_splits_have_the_sizes_asked_for_and_no_text_in_common(written):
    counts = json.loads((written / "summary.json").read_text(encoding="utf-8"))["counts"]
    assert counts == {"train": 671, "calibration": 29, "validation": 110, "probe": 10, "test": 150}
    texts = [normalise(row["text"]) for split in SPLITS for row in rows_of(written, split)]
    assert len(texts) == len(set(texts)) == 970


def test_the_summary_reports_the_linear_baseline_with_n_and_interval(written):
    baseline = json.loads((written / "summary.json").read_text(encoding="utf-8"))["baseline"]
    low, high = baseline["accuracy_interval"]
    assert 0 < low < baseline["accuracy"] < high < 1
    assert baseline["n"] == 150


def test_running_twice_gives_the_same_bytes(written, tmp_path):
    prepare.run(settings(), tmp_path / "data")
    assert artifact.digest(tmp_path / "data") == artifact.digest(written)


def test_another_seed_gives_other_data(written, tmp_path):
    prepare.run(settings(seed=2), tmp_path / "data")
    assert rows_of(tmp_path / "data", "test") != rows_of(written, "test")


def test_a_test_text_in_train_is_removed_and_counted_and_the_files_are_parents(tmp_path):
    train = [("turn it on", "on"), ("turn it off", "off"), ("Leak  here", "on"), ("on now", "on"), ("off now", "off")]
    given = jsonl_settings(tmp_path, train, [("on then", "on"), ("off then", "off")], [("leak here", "off")])
    out = tmp_path / "data"
    prepare.run(given, out)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["duplicates"]["removed_from_train"] == 1
    assert summary["duplicates"]["contradicting_examples"] == {"leak here": ["off", "on"]}
    texts = [normalise(row["text"]) for split in ("train", "calibration") for row in rows_of(out, split)]
    assert "leak here" not in texts
    assert len(texts) == 4
    parents = artifact.manifest(out)["parents"]
    assert parents["train"] == artifact.sha256(tmp_path / "train.jsonl")


def test_what_was_taken_out_of_what_is_said_where_it_is_not_what_was_asked_for(tmp_path, capsys):
    rows = [(f"turn {number} {label}", label) for number in range(200) for label in ("on", "off")]
    given = jsonl_settings(tmp_path, rows, [], [("now on", "on"), ("now off", "off")])
    data = given.data.model_copy(update={"validation": None, "calibration_size": 128, "probe_size": 64})
    prepare.run(given.model_copy(update={"data": data}), tmp_path / "data")
    assert capsys.readouterr().err.splitlines() == [
        "validation: 40 of 400 train utterances",
        "calibration: 90 of 360 train utterances, 128 were asked for",
        "probe: 64 of 270 train utterances",
    ]
    summary = json.loads((tmp_path / "data/summary.json").read_text(encoding="utf-8"))
    assert summary["carved"]["calibration"] == {"source": "train", "taken": 90, "wanted": 128, "of": 360}
    assert summary["counts"] == {"train": 206, "validation": 40, "test": 2, "calibration": 90, "probe": 64}


def test_a_data_set_that_is_large_enough_is_carved_without_a_word(tmp_path, capsys):
    prepare.run(settings(), tmp_path / "data")
    assert capsys.readouterr().err == ""


def test_unicode_survives(tmp_path):
    train = [
        ("lumière s'il vous plaît", "on"),
        ("消して ください", "off"),
        ("turn it on", "on"),
        ("turn it off", "off"),
    ]
    given = jsonl_settings(tmp_path, train, [("on then", "on"), ("off then", "off")], [("naïve 🙂 on", "on")])
    prepare.run(given, tmp_path / "data")
    assert rows_of(tmp_path / "data", "test") == [{"text": "naïve 🙂 on", "label": "on"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"train_size": 64, "calibration_size": 90, "validation_size": 40, "test_size": 40},
            "error: data.calibration_size is 90, but train has 64 utterances; expected at most 63",
        ),
        ({"train_size": 10}, "error: the validation split has"),
        ({"typo_rate": 2.0}, "error: .*typo_rate.* is 2.0"),
        ({"extra": 1}, "error: unknown key"),
    ],
)
def test_a_bad_setting_is_one_line_with_exit_1_and_leaves_nothing(tmp_path, capsys, data, message):
    params_file = tmp_path / "params.yaml"
    params_file.write_text(yaml.safe_dump({"task": TASK, "data": EMBEDDED | data}), encoding="utf-8")
    assert prepare.main(["--params", str(params_file), "--out", str(tmp_path / "build/data")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "build").exists() or not list((tmp_path / "build").iterdir())


def test_a_failing_run_leaves_the_former_output(tmp_path):
    prepare.run(settings(), tmp_path / "data")
    before = artifact.digest(tmp_path / "data")
    with pytest.raises(ConfigError, match="calibration_size"):
        prepare.run(settings(train_size=64, calibration_size=64, validation_size=40, test_size=40), tmp_path / "data")
    assert artifact.digest(tmp_path / "data") == before


@pytest.mark.parametrize("option", ["embedded", "clinc150", "jsonl", "csv", "hub"])
def test_every_data_option_of_conf_fits_the_schema(option):
    data = yaml.safe_load((ROOT / f"conf/data/{option}.yaml").read_text(encoding="utf-8"))
    given = parse(prepare.Params, {"task": TASK, "data": data}, "params.yaml")
    assert given.data.kind == option
    assert (ROOT / f"conf/data/{option}.yaml").read_text(encoding="utf-8").startswith("# @package data\n# ")


def test_one_file_is_split_into_all_that_is_learnt_from_and_judged_by(tmp_path, capsys):
    rows = [(f"{word} {number}", label) for label, word in (("a", "one"), ("b", "two")) for number in range(60)]
    given = jsonl_settings(tmp_path, rows, [], [])
    data = given.data.model_copy(update={"validation": None, "test": None})
    prepare.run(given.model_copy(update={"data": data}), tmp_path / "out")
    found = {name: rows_of(tmp_path / "out", name) for name in ("train", "validation", "test", "calibration", "probe")}
    assert sorted(row["text"] for split in found.values() for row in split) == sorted(text for text, _ in rows)
    assert len(found["test"]) == 24
    carved = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))["carved"]
    assert (carved["test"]["source"], carved["test"]["of"], carved["validation"]["of"]) == ("train", 120, 96)
    assert "test: 24" in capsys.readouterr().err
