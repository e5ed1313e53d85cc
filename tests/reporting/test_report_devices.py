"""Tests of `reporting/devices.py` and its section: who can have what, by which accelerator, and what clients say."""

from __future__ import annotations

from pathlib import Path

from tests.toys.report_build import Text, devices, judge, written


def text(build: Path) -> str:
    return " ".join(Text(written(build)).text.split())


def test_no_device_is_spoken_of_where_none_was_chosen(build: Path) -> None:
    assert "Which devices it is for" not in text(build)


def test_the_page_has_a_row_for_each_variant_of_each_chosen_device(build: Path) -> None:
    judge(build, devices=devices("android-12", "iphone-ios18"))
    said = text(build)
    for words in (
        "Which devices it is for",
        "Android 12 phone with NNAPI android-12",
        "NNAPI feature level 6",
        "100.0 % of multiply-accumulates, 2 parts",
        "onnxruntime: not asked",
        "ios_version_min was not measured",
    ):
        assert words in said, words
    assert said.count("iPhone on iOS 18") == 1
