"""What `make repro` ends with, on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages import summary
from tests.toys.report_build import TABLE, TEST, devices, judge


def test_the_summary_names_every_variant_and_what_was_cut_of_the_texts(
    build: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert summary.main(["--build", str(build)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(key in said for key in TABLE)
    assert f"read without their end: train 11 of 270, test 7 of {TEST}, calibration 3 of 90." in said


def test_the_summary_says_what_every_chosen_device_can_have_and_why_not_the_rest(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(build, devices=devices("microcontroller"))
    assert summary.main(["--build", str(build)]) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if line.startswith("microcontroller: "))
    assert "not tflite-nnapi-fp32 (tflite_micro takes" in line
    assert "onnx-cpu" not in line


def test_a_build_without_verdicts_says_that_it_stopped_early(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary.main(["--build", str(tmp_path), "--code", "1"]) == 0
    assert "the build stopped before its gate" in capsys.readouterr().out
