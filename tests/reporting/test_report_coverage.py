"""Tests of `reporting/coverage.py` and its section: who takes how much, and what is refused told once for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import ArtifactError
from stages.reporting.coverage import Platform, read_platforms
from tests.toys.report_build import Text, reseal, rewrite, variants, written


def platforms(build: Path) -> dict[str, Platform]:
    found = read_platforms({key: variant.target for key, variant in variants().items()}, build)
    return {one.name: one for one in found}


def change(build: Path, key: str, how: Callable[[Any], None]) -> None:
    rewrite(build / "coverage" / key / "metrics.json", how)
    reseal(build / "coverage" / key)


def test_what_is_refused_is_told_once_for_all_levels_and_variants_that_refuse_it(build: Path) -> None:
    found = platforms(build)["tflite-nnapi"]
    (gelu,) = [one for one in found.refusals if "maps no such operator" in one.reason]
    assert (gelu.operator, len(gelu.variants), gelu.modules) == ("GELU", 3, ["layer/0/act"])
    assert len(gelu.accelerators) == 8
    assert list(found.rows) == [key for key, one in variants().items() if one.target == "tflite-nnapi"]


def test_the_page_says_shares_parts_cures_and_which_rules_are_advice(build: Path) -> None:
    text = " ".join(Text(written(build)).text.split())
    for words in ("Which operators accelerators take", "2 parts", "x·sigmoid(1.702x)", "Android 15 deprecates NNAPI"):
        assert words in text
    assert "Core ML, Neural Engine†" in text
    assert "LiteRT, XNNPACK on the CPU†" not in text


def test_a_doubt_is_shown_apart_from_what_is_sure(build: Path) -> None:
    key = "tflite-nnapi-fp32"
    change(build, key, lambda value: value["accelerators"]["nnapi_fl8"].update(macs=1.0, sure_macs=0.25))
    assert "25.0 % for sure" in Text(written(build)).text


def test_what_could_not_be_told_says_why(build: Path) -> None:
    failed = {"status": "failed", "reason": "the file is damaged <b>", "target": "onnx-cpu"}

    def fail(value: dict[str, object]) -> None:
        value.clear()
        value.update(failed)

    change(build, "onnx-cpu-fp32", fail)
    html = written(build)
    assert "onnx-cpu-fp32: nothing is known. the file is damaged <b>" in Text(html).text
    assert "damaged <b>" not in html


def test_an_altered_coverage_is_no_evidence(build: Path) -> None:
    rewrite(build / "coverage/onnx-cpu-fp32/metrics.json", lambda value: value.update(target="another"))
    with pytest.raises(ArtifactError, match=r"coverage/onnx-cpu-fp32"):
        written(build)
