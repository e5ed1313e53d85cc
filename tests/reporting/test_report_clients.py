"""The report shows what clients answered to the artifacts that lie here, why others did not, and links the demo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stages.core import artifact
from stages.reporting import clients
from tests.toys.report_build import HOSTILE, variants, written

KEY, OTHER = "onnx-cpu-fp32", "tflite-nnapi-dynamic_wi8_afp32"
PASSED = {
    "edges": {"different": ["accents", "sharp_s"], "n": 22, "shown": False},
    "latency_p50_ms": 1.25,
    "load_time_ms": 9.0,
    "max_probability_difference": 3.2e-7,
    "n": 50,
    "reason": "",
    "tokens_equal": None,
    "top1_agreement": 1.0,
    "top1_agreement_with_reference": 0.98,
    "verdict": "pass",
    "version": "mediapipe 1.2.2",
}
REFUSED = {"reason": f"op version '4' {HOSTILE}", "verdict": "refuses", "version": "tflite-runtime 2.14.0"}
ABSENT = {"reason": "needs macOS", "verdict": "not_measured"}


def answered(build: Path, key: str = KEY, **entries: dict[str, Any]) -> None:
    of = artifact.digest(build / "artifact" / key)
    bundles = {key: {"artifact": of, "bundle": "", "clients": entries}}
    artifact.write_json(build / "clients.json", {"bundles": bundles, "schema": 1})


def section(build: Path) -> str:
    html = written(build)
    return html[html.index('id="clients"') : html.index('id="lineage"')]


def test_answers_refusals_and_absences_stand_side_by_side(build: Path) -> None:
    answered(build, mediapipe=PASSED, old=REFUSED, coreml=ABSENT)
    shown = section(build)
    assert re.findall(r">([⊘✓○])</span> (pass|refuses|not measured)</span>", shown) == [
        ("○", "not measured"),
        ("✓", "pass"),
        ("⊘", "refuses"),
    ]
    assert ">50<" in shown
    assert ">49<" in shown
    assert "3.2×10⁻⁷" in shown
    assert "2 of 22<" in shown
    assert "accents; sharp_s (told by the answers)" in shown
    assert "needs macOS" in shown


def test_what_a_client_says_is_never_taken_for_markup(build: Path) -> None:
    answered(build, old=REFUSED)
    assert HOSTILE not in section(build)


def test_answers_about_other_bytes_are_passed_over(build: Path) -> None:
    answered(build, mediapipe=PASSED)
    assert [client.name for client in clients.read_clients(variants(), build)] == ["mediapipe"]
    known = artifact.read_json(build / "clients.json")
    known["bundles"][KEY]["artifact"] = "0" * 64
    artifact.write_json(build / "clients.json", known)
    assert clients.read_clients(variants(), build) == []
    assert "<code>make clients</code>" in section(build)


@pytest.mark.parametrize("stale", [False, True])
def test_the_demo_page_is_linked_while_it_shows_the_bundles_that_lie_here(build: Path, stale: bool) -> None:
    assert "<code>make demo</code>" in section(build)
    bundle = build / "release" / KEY
    with artifact.writing(bundle, stage="release", parents={"artifact": build / "artifact" / KEY}) as out:
        (out / "labels.json").write_text("[]", encoding="utf-8")
    with artifact.writing(build / "demo", stage="demo", parents={KEY: bundle}) as out:
        (out / "index.html").write_text("", encoding="utf-8")
    if stale:
        with artifact.writing(bundle, stage="release", parents={"artifact": build / "artifact" / OTHER}):
            pass
    assert ('href="../demo/index.html"' in section(build)) != stale


def test_edge_texts_are_listed_once_where_the_next_variant_has_the_same(build: Path) -> None:
    bundles = {
        key: {
            "artifact": artifact.digest(build / "artifact" / key),
            "bundle": "",
            "clients": {"mediapipe": entry},
        }
        for key, entry in ((KEY, PASSED), (OTHER, PASSED), ("tflite-nnapi-fp32", REFUSED))
    }
    artifact.write_json(build / "clients.json", {"bundles": bundles, "schema": 1})
    assert section(build).count("accents; sharp_s") == 1
