"""Tests of `stages/data/text.py`: pieces of plain text, each in one split."""

import pytest

from stages.core.errors import InputError
from stages.data import text
from stages.schema.data import Text


def settings(path, **changes):
    fields = {"kind": "text", "licence": "MIT", "path": None if path is None else str(path), "piece_characters": 30}
    shares = {"validation_share": 0.1, "test_share": 0.2, "seed": 1, "canaries": []}
    sizes = {"calibration_size": 8, "probe_size": 8, "probe": "validation"}
    return Text(**fields | shares | sizes | changes)


def paragraphs(count):
    return "\n\n".join(f"Paragraph {number} says that {number} comes before {number + 1}." for number in range(count))


def test_every_piece_is_in_one_split_and_nothing_is_lost(tmp_path):
    (tmp_path / "book.txt").write_text(paragraphs(200), encoding="utf-8")
    source = text.load(settings(tmp_path / "book.txt"))
    pieces = [example.text for examples in source.splits.values() for example in examples]
    assert {name: len(examples) for name, examples in source.splits.items()} == {
        "train": 140,
        "test": 40,
        "validation": 20,
    }
    assert sorted(pieces) == sorted(paragraphs(200).split("\n\n"))
    assert all(example.label is None for examples in source.splits.values() for example in examples)
    assert source.files == {"book.txt": tmp_path / "book.txt"}


def test_the_seed_alone_decides_what_is_held_out(tmp_path):
    (tmp_path / "book.txt").write_text(paragraphs(200), encoding="utf-8")
    once, again, other = (text.load(settings(tmp_path, seed=seed)).splits["test"] for seed in (1, 1, 2))
    assert once == again != other


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_short_paragraphs_are_joined_and_line_ends_do_not_matter(end):
    lines = ["Hark.", "Who goes there, at this late hour of the night?", "", "A friend.", "", "", "Pass."]
    found = list(text.cut(text.paragraphs(end.join(lines), set()), 60))
    assert found == ["Hark.\nWho goes there, at this late hour of the night?\n\nA friend.", "Pass."]


def test_a_long_paragraph_is_taken_once_wherever_it_is_quoted():
    quoted = "A sentence of the manual, quoted in every chapter that needs it."
    text_of_two, seen = [f"One.\n\n{quoted}\n\nAside.", f"Two.\n\n{quoted.upper()}\n\nAside."], set()
    found = [list(text.paragraphs(one, seen)) for one in text_of_two]
    assert found == [["One.", quoted, "Aside."], ["Two.", "Aside."]]


def test_without_a_path_python_itself_has_text():
    source = text.load(settings(None, piece_characters=300))
    assert sum(len(example.text) for example in source.splits["train"]) > 200_000
    assert source.files == {}


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda place: None, "cannot read|no such|not"),
        (
            lambda place: place.write_text("too little", "utf-8"),
            "1 different pieces of 30 characters; expected 64 or more",
        ),
        (lambda place: place.write_bytes(b"caf\xe9"), "UTF-8"),
        (lambda place: place.mkdir(), r"holds no text; expected a file, or a directory with files named \*\.txt"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, write, match):
    write(tmp_path / "book.txt")
    with pytest.raises(InputError, match=match):
        text.load(settings(tmp_path / "book.txt"))
