"""What the page says comes from the files: gaps, distributions, lineage, hosts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np

from stages.core import artifact
from stages.measure.items import Answers
from stages.measure.statistics import paired_difference
from stages.reporting import evidence, gaps
from stages.tasks.classify import PRIMARY, quality
from tests.toys.report_build import (
    TEST,
    Text,
    reseal,
    rewrite,
    variants,
    written,
)


def test_gaps_are_paired_and_come_from_the_logits(build: Path) -> None:
    found = {(gap.kind, gap.name): gap for gap in evidence.load(variants(), build, build / "verdicts.json").gaps}
    labels = np.load(build / "reference/none/test.npz")["labels"]
    right = [np.load(build / name / "test_logits.npy").argmax(1) == labels for name in ("teacher", "student")]
    assert found["distillation", "student"].lost == paired_difference(*right)
    pruned = found["compression", "pruned"]
    assert pruned.lost is not None
    assert pruned.lost[0] > 0.02
    nothing = found["compression", "none"]
    assert nothing.lost is not None
    assert nothing.lost[0] == 0
    values = artifact.read_json(build / "verdicts.json")["variants"]["onnx-cpu-dynamic_wi8_afp32"]["metrics"]
    conversion = found["conversion", "onnx-cpu-dynamic_wi8_afp32"]
    assert conversion.lost is not None
    assert conversion.lost[0] == values["accuracy_drop_to_reference"]
    assert conversion.n == TEST


def test_nan_has_no_gap_no_distribution_and_no_number(build: Path) -> None:
    html = written(build)
    assert "7 of 400 answers are NaN or infinite" in html
    assert "7 of 440 answers are NaN or infinite" in html
    row = next(
        row
        for row in json.loads((build / "report/gaps.json").read_text(encoding="utf-8"))
        if row["name"] == "onnx-cpu-pruned"
    )
    assert row["after"] is None
    assert row["drop"] is None
    assert not re.search(r'"(nan|inf)"|[ >,](nan|inf)[ <,]', html)


def test_unlabelled_utterances_are_left_out_of_gaps() -> None:
    labels = np.array([0, 1, -1, -1])
    asked = gaps.Asked(np.arange(4), labels, quality, PRIMARY)
    before, after = (Answers(np.array(given), np.zeros(4)) for given in ([0, 1, 0, 0], [0, 0, 0, 0]))
    gap = gaps.measure_gap("conversion", "v", asked, before, after)
    assert (gap.n, gap.before, gap.after) == (2, 1.0, 0.5)


def test_a_broken_link_in_the_lineage_is_said_loudly(build: Path) -> None:
    assert "and hold" in written(build)
    rewrite(build / "student" / artifact.MANIFEST, lambda value: value["params"].update(edited=True))
    html = written(build)
    assert "<b>Broken:</b> the manifest of compressed none does not name the student student" in html
    assert "and hold" not in html


def test_the_lineage_of_a_chained_compression_is_followed_through_every_step(build: Path) -> None:
    last, first = build / "compressed/none", build / "compressed/first"
    shutil.copytree(last, first)
    parents = {"compressed-first": artifact.digest(first)}
    chained = {"params": {"compression": {"after": "first", "kind": "toy"}}, "parents": parents}
    rewrite(last / artifact.MANIFEST, lambda value: value.update(chained))
    assert "of compressed none does not name" not in written(build)
    rewrite(first / artifact.MANIFEST, lambda value: value["params"].update(edited=True))
    assert "<b>Broken:</b> the manifest of compressed none does not name the student student" in written(build)


def test_lineage_shows_short_digests_and_whole_ones_on_hover(build: Path) -> None:
    html = written(build)
    digest = artifact.digest(build / "artifact/onnx-cpu-fp32")
    assert f">{digest[:12]}</text>" in html
    assert f"sha256 of its manifest: {digest}</title>" in html


def test_benchmarks_of_two_hosts_are_not_shown_as_one(build: Path) -> None:
    assert "Latencies of different hosts do not compare" not in written(build)
    rewrite(build / "benchmark/onnx-cpu-fp32/metrics.json", lambda value: value["host"].update(cpu_model="Another CPU"))
    reseal(build / "benchmark/onnx-cpu-fp32")
    text = Text(written(build)).text
    assert "Another CPU" in text
    assert "Latencies of different hosts do not compare" in text


def test_a_busy_host_is_said(build: Path) -> None:
    warning = "The host was busier than it has cores"
    assert warning not in written(build)
    rewrite(build / "benchmark/onnx-cpu-fp32/metrics.json", lambda value: value.update(load_average=[9.5, 1, 1]))
    reseal(build / "benchmark/onnx-cpu-fp32")
    assert warning in written(build)
