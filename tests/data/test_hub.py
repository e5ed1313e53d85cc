import csv
import json

import pytest

from stages.core.errors import InputError
from stages.data import hub
from stages.data.splits import RAW, Example
from stages.schema.data import Hub

ROWS = [("turn it on", "on"), ("turn it off", "off"), ("off please", "off")]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def load(path, **changes):
    settings = {
        "kind": "hub", "licence": "x", "seed": 0, "canaries": [], "calibration_size": 1, "probe_size": 1,
        "revision": None, "probe": "validation", "train": "train", "validation": "validation", "test": "test",
        "validation_share": 0.1, "test_share": 0.2, "text_column": "text", "label_column": "label",
    }  # fmt: skip
    return hub.load(Hub(path=str(path), **(settings | changes)))


def write(directory, suffix):
    for split in RAW:
        path = directory / f"{split}.{suffix}"
        records = [{"text": f"{split} {text}", "label": label} for text, label in ROWS]
        if suffix == "csv":
            with path.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, ["text", "label"])
                writer.writeheader()
                writer.writerows(records)
        elif suffix == "parquet":
            import datasets

            datasets.Dataset.from_list(records).to_parquet(str(path))
        else:
            path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_a_local_directory_of_files_is_read_in_order(tmp_path, suffix):
    write(tmp_path, suffix)
    source = load(tmp_path)
    for split in RAW:
        assert source.splits[split] == [Example(f"{split} {text}", label) for text, label in ROWS]
    assert set(source.files) == {f"{split}.{suffix}" for split in RAW}
    assert source.tools == ("datasets",)


def saved(directory, labels=(0, 1, 1)):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["on", "off"])},
    )
    tables = {
        split: datasets.Dataset.from_dict(
            {"text": [f"{split} {text}" for text, _ in ROWS], "label": list(labels)}, features=features
        )
        for split in RAW
    }
    datasets.DatasetDict(tables).save_to_disk(str(directory))
    return directory


def test_what_save_to_disk_wrote_is_read_with_the_names_of_its_classes(tmp_path):
    source = load(saved(tmp_path / "saved"))
    assert source.splits["test"] == [Example(f"test {text}", label) for text, label in ROWS]


def test_texts_alone_are_read_where_no_column_of_labels_is_asked_for(tmp_path):
    source = load(saved(tmp_path / "saved", labels=(0, -1, 1)), label_column=None)
    assert source.splits["test"] == [Example(f"test {text}", None) for text, _ in ROWS]


def test_slices_of_one_split_serve_where_a_data_set_has_no_validation(tmp_path):
    source = load(saved(tmp_path / "saved"), train="train[:2]", validation="train[2:]")
    assert [len(source.splits[split]) for split in RAW] == [2, 1, 3]


def test_a_changed_local_file_is_read_anew(tmp_path):
    write(tmp_path, "csv")
    load(tmp_path)
    (tmp_path / "train.csv").write_text("text,label\nchanged,on\n", encoding="utf-8")
    assert load(tmp_path).splits["train"] == [Example("changed", "on")]


def test_a_hidden_label_is_refused_with_its_row(tmp_path):
    with pytest.raises(InputError, match="train row 1: label is None"):
        load(saved(tmp_path / "saved", labels=(0, -1, 1)))


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read split 'dev' of .*dev"):
        load(saved(tmp_path / "saved"), validation="dev")


def test_an_unknown_column_is_refused_with_those_that_exist(tmp_path):
    with pytest.raises(InputError, match="train has no column 'intent'; expected one of: label, text"):
        load(saved(tmp_path / "saved"), label_column="intent")


def test_a_number_in_place_of_a_text_is_refused(tmp_path):
    for split in RAW:
        (tmp_path / f"{split}.csv").write_text("text,label\n3,on\n", encoding="utf-8")
    with pytest.raises(InputError, match="train row 0: text is 3"):
        load(tmp_path)


def test_a_directory_without_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read split 'train'"):
        load(tmp_path)


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_a_hub_id_without_a_commit_is_refused_before_any_network(revision):
    with pytest.raises(InputError, match="no directory here.*commit hash of 40 hex digits.*local directory"):
        load("nobody/nothing", revision=revision)


def test_a_hub_id_without_network_says_how_to_use_a_local_directory():
    with pytest.raises(
        InputError, match="cannot reach the hub for data set 'nobody/nothing'.*local directory"
    ) as caught:
        load("nobody/nothing", revision=COMMIT)
    assert "\n" not in str(caught.value)


def test_two_csv_columns_of_one_name_are_refused(tmp_path):
    for split in RAW:
        (tmp_path / f"{split}.csv").write_text("text,label,label\na,x,y\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"train has two columns 'label'; expected each column once"):
        load(tmp_path)


def test_a_missing_validation_split_is_left_to_be_carved(tmp_path):
    write(tmp_path, "json")
    (tmp_path / "validation.json").unlink()
    assert set(load(tmp_path, validation=None).splits) == {"train", "test"}
