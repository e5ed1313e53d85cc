import json

import pytest

from stages.core.errors import InputError
from stages.data import files
from stages.data.splits import Example
from stages.schema.data import Files


def write_splits(directory, suffix, contents):
    for name in ("train", "validation", "test"):
        (directory / f"{name}.{suffix}").write_bytes(contents if isinstance(contents, bytes) else contents.encode())


def load(directory, kind, text="text", label="label"):
    names = {name: str(directory / f"{name}.{kind}") for name in ("train", "validation", "test")}
    common = {"licence": "x", "seed": 0, "calibration_size": 1, "probe_size": 1, "probe": "validation"}
    return files.load(Files(kind=kind, text_column=text, label_column=label, **names, **common))


def test_json_lines_are_read_with_the_columns_asked_for(tmp_path):
    rows = [{"q": "hé\u2028llo", "intent": "greet", "more": 1}, {"q": "bye", "intent": 3}]
    write_splits(tmp_path, "jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    source = load(tmp_path, "jsonl", "q", "intent")
    assert source.splits["test"] == [Example("hé\u2028llo", "greet"), Example("bye", "3")]
    assert set(source.files) == {"train", "validation", "test"}


def test_csv_is_read_with_quotes_newlines_and_byte_order_mark(tmp_path):
    write_splits(tmp_path, "csv", '\ufefftext,label\n"a, ""b""\nc",x\nd,y\n')
    assert load(tmp_path, "csv").splits["train"] == [Example('a, "b"\nc', "x"), Example("d", "y")]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read '.*train\.csv': No such file"):
        load(tmp_path, "csv")


def test_a_directory_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(InputError, match=r"cannot read '.*train\.jsonl': Is a directory"):
        load(tmp_path, "jsonl")


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("jsonl", '{"text": "a", "label": "x"}\n{oops\n', "line 2 is not JSON.*one object per line"),
        ("jsonl", '["a", "x"]\n', r"line 1 is .*one JSON object per line"),
        ("jsonl", '{"text": "a"}\n', "line 1 has no column 'label'; expected one of: text; next: set data"),
        ("jsonl", '{"text": 7, "label": "x"}\n', "line 1: text is 7; expected a non-empty string"),
        ("jsonl", '{"text": null, "label": "x"}\n', "line 1: text is None"),
        ("jsonl", '{"text": "  ", "label": "x"}\n', "line 1: text is ' '"),
        ("jsonl", '{"text": "a", "label": true}\n', "line 1: label is True"),
        ("jsonl", '{"text": "a", "label": 1.5}\n', "line 1: label is 1.5"),
        ("jsonl", '{"text": "\\ud800", "label": "x"}\n', "line 1: text is .*lone surrogates"),
        ("jsonl", b"\xff\xfe", "is not UTF-8 text"),
        ("csv", "utterance,label\na,x\n", "has no column 'text'; expected one of: label, utterance"),
        ("csv", "text,label\na\n", "line 2: label is None"),
        ("csv", "text,label\na,x,more\n", "line 2 has more cells than the first row"),
        ("csv", 'text,label\n"a,x\n', "is not CSV"),
        ("csv", "text,text\na,x\n", "has no column 'label'"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, kind, content, message):
    write_splits(tmp_path, kind, content)
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "text,label\n"])
def test_a_file_without_rows_is_an_empty_split_for_the_check_to_refuse(tmp_path, content):
    write_splits(tmp_path, "csv", content)
    assert load(tmp_path, "csv").splits["train"] == []
