import json

import pytest

from stages.core.errors import InputError
from stages.data import files
from stages.data.splits import Example
from stages.schema.data import Csv, JsonLines


def write_splits(directory, suffix, contents):
    for name in ("train", "validation", "test"):
        (directory / f"{name}.{suffix}").write_bytes(contents if isinstance(contents, bytes) else contents.encode())


def load(directory, kind, text="text", label="label", **changes):
    names = {name: str(directory / f"{name}.{kind}") for name in ("train", "validation", "test")}
    common = {"licence": "x", "seed": 0, "canaries": [], "calibration_size": 1, "probe_size": 1, "probe": "validation"}
    settings = (
        common
        | names
        | {"validation_share": 0.1, "test_share": 0.2, "text_column": text, "label_column": label, "kind": kind}
    )
    schema, own = (JsonLines, {}) if kind == "jsonl" else (Csv, {"delimiter": "comma"})
    return files.load(schema(**(settings | own | changes)))


def test_json_lines_are_read_with_the_columns_asked_for(tmp_path):
    rows = [{"q": "hé\u2028llo", "intent": "greet", "more": 1}, {"q": "bye", "intent": 3}]
    write_splits(tmp_path, "jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    source = load(tmp_path, "jsonl", "q", "intent")
    assert source.splits["test"] == [Example("hé\u2028llo", "greet"), Example("bye", "3")]
    assert set(source.files) == {"train", "validation", "test"}


def test_csv_is_read_with_quotes_newlines_and_byte_order_mark(tmp_path):
    write_splits(tmp_path, "csv", '\ufefftext,label\n"a, ""b""\nc",x\nd,y\n')
    assert load(tmp_path, "csv").splits["train"] == [Example('a, "b"\nc', "x"), Example("d", "y")]


def test_texts_alone_are_read_where_no_column_of_labels_is_asked_for(tmp_path):
    write_splits(tmp_path, "csv", "text,label\na,x\nb,\n")
    assert load(tmp_path, "csv", label=None).splits["test"] == [Example("a", None), Example("b", None)]


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
        ("csv", "text,text\na,x\n", "has 2 columns 'text'; expected each column once"),
        ("csv", "text,label,label\na,x,y\n", "has 2 columns 'label'"),
        ("csv", "text;label\na;x\n", "is separated by semicolons, not by commas; next: set data.delimiter=semicolon"),
        ("csv", '"id"\t"text"\t"label"\n1\ta\tx\n', "is separated by tabs, .*set data.delimiter=tab"),
        ("csv", "text|label\na|x\n", "is separated by pipes"),
        ("csv", 'text,label\na,"x\ny"\n', "line 3: label 'x.ny' holds the unprintable character U.000A"),
        ("csv", "text,label\na,x \n", "line 2: label 'x ' begins or ends with white space; expected one printable"),
        ("jsonl", '{"text": "a", "label": "x", "text": "b"}', "line 1: key 'text' is given twice.*each key once"),
        ("jsonl", '{"text": "a", "label": "x", "more": {"b": 1, "b": 2}}', "key 'b' is given twice"),
        ("jsonl", '{"text": "a", "label": "x\\u2028y"}', "holds the unprintable character U.2028"),
        ("jsonl", '{"text": "a", "label": "\\u202ex"}', "holds the unprintable character U.202E"),
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


@pytest.mark.parametrize(("name", "character"), [("semicolon", ";"), ("tab", "\t"), ("pipe", "|"), ("comma", ",")])
def test_cells_are_separated_by_what_the_settings_say(tmp_path, name, character):
    write_splits(tmp_path, "csv", f'text{character}label\n"a{character} b"{character}x\n')
    assert load(tmp_path, "csv", delimiter=name).splits["test"] == [Example(f"a{character} b", "x")]


def test_a_split_that_is_not_given_is_not_read(tmp_path):
    write_splits(tmp_path, "jsonl", '{"text": "a", "label": "x"}')
    source = load(tmp_path, "jsonl", validation=None)
    assert set(source.splits) == set(source.files) == {"train", "test"}


def test_a_column_that_nobody_asked_for_may_occur_twice(tmp_path):
    write_splits(tmp_path, "csv", "text,note,note,label\na,1,2,x\n")
    assert load(tmp_path, "csv").splits["train"] == [Example("a", "x")]
