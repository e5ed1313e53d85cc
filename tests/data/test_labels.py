import pytest

from stages.core.errors import InputError
from stages.data.labels import check_distinct, flaw


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("play music\nor radio", "U.000A"),
        ("a\rb", "U.000D"),
        ("a\tb", "U.0009"),
        ("a\x85b", "U.0085"),
        ("a\u2029b", "U.2029"),
        ("\u202eevil", "U.202E"),
        ("a\x00", "U.0000"),
        ("\ue000", "U.E000"),
        ("alarm ", "white space"),
        ("\u00a0alarm", "white space"),
    ],
)
def test_a_label_that_is_no_printable_line_is_told_from_one_that_is(label, message):
    import re

    assert re.search(message, flaw(label))


@pytest.mark.parametrize(
    "label", ["alarm", "pay bill", "Größe", "今日の天気", "می‌خواهم", "👩‍👩‍👧", "a\u00a0b", "LABEL_0"]
)
def test_words_of_every_script_are_labels(label):
    assert flaw(label) == ""


@pytest.mark.parametrize("other", ["pay  bill", "pay\u00a0bill", "pay\u200b bill", "ｐａｙ bill"])
def test_labels_that_look_alike_are_refused(other):
    with pytest.raises(InputError, match="look alike; expected one spelling of each label"):
        check_distinct(["alarm", "pay bill", other])


def test_composed_and_decomposed_letters_look_alike():
    with pytest.raises(InputError, match="look alike"):
        check_distinct(["caf\u00e9", "cafe\u0301"])


def test_labels_that_differ_in_case_are_two():
    check_distinct(["May", "may"])
