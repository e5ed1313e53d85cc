"""The page: verdicts in words, reasons, escaping, nothing from outside, no bare latency."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.reporting import evidence, page, wording
from tests.toys.report_build import (
    HOSTILE,
    TABLE,
    UNAVAILABLE,
    Text,
    fronts,
    reseal,
    rewrite,
    variants,
    written,
)


def test_every_variant_is_named_with_its_verdict_in_words(build: Path) -> None:
    text = Text(written(build)).text
    assert "4 of 9 variants pass" in text
    for key in TABLE:
        assert key in text
    for words in ("✓ pass", "✕ fail", "○ not measured"):
        assert words in text


def test_reasons_stand_beside_everything_that_is_not_a_pass(build: Path) -> None:
    text = Text(written(build)).text
    judged = artifact.read_json(build / "verdicts.json")["variants"]
    reasons = [reason for entry in judged.values() if entry["verdict"] != "pass" for reason in entry["reasons"]]
    assert len(reasons) >= 5
    assert all(reason in text for reason in reasons)
    assert f"{UNAVAILABLE}, so nothing was timed" in text


def test_user_text_is_escaped_wherever_it_appears(build: Path) -> None:
    def inject(value: Any) -> None:
        for entry in value["variants"].values():
            entry["runtime"] = entry["timing"] = HOSTILE
            entry["reasons"] = [HOSTILE]

    rewrite(build / "verdicts.json", inject)
    rewrite(build / "data/summary.json", lambda value: value["baseline"].update(method=HOSTILE))
    rewrite(build / "benchmark/onnx-cpu-fp32/metrics.json", lambda value: value["host"].update({HOSTILE: HOSTILE}))
    for name in ("data", "benchmark/onnx-cpu-fp32"):
        reseal(build / name)
    html = written(build)
    assert HOSTILE not in html
    assert HOSTILE in Text(html).text
    assert html.count("<script") == 1


def test_hostile_variant_keys_are_escaped_in_table_charts_and_lineage(build: Path) -> None:
    old, new = "tflite-nnapi-fp32", '"><b>&'
    for stage in ("artifact", "coverage", "parity", "benchmark"):
        shutil.move(build / stage / old, build / stage / new)
    chosen = {new if key == old else key: value for key, value in variants().items()}
    rewrite(build / "verdicts.json", lambda value: value["variants"].update({new: value["variants"].pop(old)}))
    html = written(build, chosen)
    assert "<b>&" not in html
    assert html.count("&gt;&lt;b&gt;&amp;") >= 6


def test_a_dominated_variant_is_marked_with_its_reason_and_notes_name_who_carries_them(build: Path) -> None:
    assert "ominated" not in Text(written(build)).text
    note = "an NNAPI driver, or TensorFlow Lite of another age, may round otherwise"
    assert note in Text(written(build)).text

    def beat(value: Any) -> None:
        value["variants"]["tflite-nnapi-static_wi8_ai8"]["dominated"] = "no better than 'tflite-nnapi-fp32'"
        value["variants"]["onnx-cpu-fp32"]["notes"] = [HOSTILE]

    rewrite(build / "verdicts.json", beat)
    html = written(build)
    assert html.count('<span class="sub">dominated</span>') == 1
    assert "<dd>no better than &#39;tflite-nnapi-fp32&#39;</dd>" in html
    assert HOSTILE not in html
    assert HOSTILE in Text(html).text


def test_fastest_and_smallest_are_chosen_among_passing_variants(build: Path) -> None:
    lines = evidence.load(variants(), build, build / "verdicts.json").lines
    for metric in ("latency_p50_ms", "size_bytes"):
        cheapest = min((line for line in lines if metric in line.values), key=lambda line: line.values[metric])
        assert cheapest.verdict != "pass"
        chosen = page.best(lines, metric)
        assert chosen is not None
        assert chosen.key == "onnx-cpu-dynamic_wi8_afp32"


def test_a_build_without_a_pass_still_gets_a_page(build: Path) -> None:
    rewrite(build / "verdicts.json", lambda value: [e.update(verdict="fail") for e in value["variants"].values()])
    html = written(build)
    assert "no variant passes" in html
    assert not fronts(html)


def test_nothing_is_requested_from_outside_the_page(build: Path) -> None:
    html = written(build)
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html
    for tag, attributes in Text(html).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "style", "onclick", "onload"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src &#39;none&#39;" in html


def test_the_policy_names_exactly_the_inline_style_and_script(build: Path) -> None:
    html = written(build)
    for tag in ("style", "script"):
        block = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert block
        hashed = base64.b64encode(hashlib.sha256(block[1].encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{hashed}&#39;" in html


def test_no_latency_stands_without_a_verdict_beside_it(build: Path) -> None:
    html = written(build)
    judged = artifact.read_json(build / "verdicts.json")["variants"]
    table = html[html.index('id="variants"') : html.index('id="reasons"')]
    outside = html.replace(table, "")
    rows = re.findall(r"<tr class.*?</tr>", table, re.DOTALL)
    assert len(rows) == len(TABLE)
    for key, row in zip((line.key for line in evidence.load(variants(), build, build / "verdicts.json").lines), rows,
                        strict=True):  # fmt: skip
        words = judged[key]["verdict"].replace("_", " ")
        # The verdict's cell comes right before the first latency's.
        assert re.search(
            rf'<span class="verdict {judged[key]["verdict"]}">.*{words}</span></td>\n<td class="number', row
        )
    fastest = re.search(r"Fastest that passes.*?</div>", outside, re.DOTALL)
    assert fastest
    assert "✓</span> pass" in fastest[0]
    for entry in judged.values():
        shown = wording.magnitude(entry["metrics"].get("latency_p50_ms", 1e9))
        # Marks of the plot carry their verdict too; nothing else quotes a latency.
        for title in re.findall(rf"<title>[^<]*, {re.escape(shown)};[^<]*</title>", outside):
            assert title.endswith(f"; {entry['verdict'].replace('_', ' ')}</title>")


def test_unmeasured_latency_says_so_and_is_not_drawn(build: Path) -> None:
    html = written(build)
    rows = json.loads((build / "report/pareto.json").read_text(encoding="utf-8"))
    untimed = [row for row in rows if row["latency_p50_ms"] is None]
    assert [row["verdict"] for row in untimed] == ["not_measured"] * 3
    assert html.count("not<br>measured</td>") == 2 * len(untimed)
    assert "Not on this plot, latency or accuracy not measured: coreml-metal-fp16" in html


def test_a_teacher_passed_through_is_not_called_a_student_that_learned(build: Path) -> None:
    assert "that learned from a 6-layer bert teacher" in Text(written(build)).text
    rewrite(build / "student" / artifact.MANIFEST, lambda value: value["params"].update(student={"kind": "none"}))
    text = Text(written(build)).text
    assert "learned" not in text
    assert "not distilled" in text


def test_interpreted_core_ml_is_said_not_to_be_apples_runtime(build: Path) -> None:
    def interpret(value: Any) -> None:
        value["variants"]["coreml-metal-fp16"].update(runtime="reference-interpreted", verdict="pass")

    assert "artifact interpreted" not in written(build)
    rewrite(build / "verdicts.json", interpret)
    text = Text(written(build)).text
    assert "1 of the passes: artifact interpreted, not run by the platform" in text
    assert "It checks the artifact" in text
    assert "not Apple's runtime" in text


def test_a_student_no_better_than_the_baseline_is_said(build: Path) -> None:
    warning = "not clearly above this baseline"
    assert warning not in written(build)
    rewrite(build / "data/summary.json", lambda value: value["baseline"].update(accuracy_interval=[0.9, 0.99]))
    reseal(build / "data")
    assert warning in written(build)


def test_a_mixture_shows_what_was_measured_of_every_weight(build: Path) -> None:
    assert "Which weights bear fewer bits" not in written(build)
    one = {"kl_divergence_mean": 0.0012, "size_bytes": 10}
    weights = [
        {"kl_divergence_mean": 0.0034, "name": HOSTILE, "precision": "high", "saved_bytes": 8192},
        {"kl_divergence_mean": 0.00005, "name": "encoder.0.output", "precision": "low", "saved_bytes": 32768},
    ]
    facts = {"all_high": one, "all_low": one, "chosen": one, "kl_budget": 0.002, "utterances": 64, "weights": weights}
    asked = {
        "kind": "mixed",
        "low": {"kind": "dynamic", "weight_bits": 4},
        "high": {"kind": "weight_only", "weight_bits": 8},
    }
    path = build / "artifact/onnx-cpu-fp32/quantization.json"
    artifact.write_json(path, {"asked": asked, "mixture": facts})
    text = Text(written(build)).text
    assert "encoder.0.output" in text
    assert "32,768" in text
    assert text.count("weight only, 8 bits") == 2
    assert HOSTILE not in written(build)


def test_the_splits_are_shown_with_their_size_their_source_and_what_was_cut(build: Path) -> None:
    section = re.search(r'<section id="data">.*?</section>', written(build), re.DOTALL)
    assert section
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", section[0], re.DOTALL)
    said = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]
    assert said == ["train 270 11 4.1 %", "validation 80 0", "test 400 7 1.8 %",
                    "calibration 90 train 128 were asked for 3 3.3 %", "probe 40 validation 0"]  # fmt: skip
    assert "longer than 8 tokens" in section[0]
