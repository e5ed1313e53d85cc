"""Charts: no front for what failed, nothing outside its axis, no name over another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.reporting import evidence, strips, svg, tradeoff
from stages.reporting.pareto import front
from stages.tasks.base import Primary
from tests.toys.report_build import (
    fronts,
    rewrite,
    variants,
    written,
)


def test_a_failing_variant_is_never_on_a_front_however_fast(build: Path) -> None:
    assert "tflite-nnapi-static_wi8_ai8" not in fronts(written(build))

    def acquit(value: Any) -> None:
        value["variants"]["tflite-nnapi-static_wi8_ai8"].update(verdict="pass", reasons=[])

    rewrite(build / "verdicts.json", acquit)
    # It is the fastest and the smallest of its platform: only its verdict kept it off.
    assert "tflite-nnapi-static_wi8_ai8" in fronts(written(build))


def test_fronts_hold_only_what_nothing_of_the_platform_beats(build: Path) -> None:
    found = evidence.load(variants(), build, build / "verdicts.json")
    lines = [line for line in found.lines if line.target == "onnx-cpu"]
    goals = ("size_bytes", "accuracy")
    assert [line.key for line in front(lines, goals)] == ["onnx-cpu-dynamic_wi8_afp32"]
    lines[0].values["accuracy"] = 0.99
    assert [line.key for line in front(lines, goals)] == [
        "onnx-cpu-dynamic_wi8_afp32",
        "onnx-cpu-fp32",
    ]


def test_a_metric_that_is_better_lower_has_its_plot_and_what_broke_stands_at_its_upper_edge(build: Path) -> None:
    found = evidence.load(variants(), build, build / "verdicts.json")
    lines = [line for line in found.lines if "size_bytes" in line.values]
    for place, line in enumerate(lines):
        line.values["kl_divergence_mean"] = 90.0 if line.verdict == "fail" else 0.1 + 0.01 * place
        line.intervals["kl_divergence_mean"] = [0.09, 0.2]
    assert {line.verdict for line in lines} >= {"pass", "fail"}
    diverging = Primary("kl_divergence_mean", "KL", "", "")
    drawing = tradeoff.tradeoff(lines, "size_bytes", "size, MB", 1e-6, 0.15, diverging)
    assert drawing.startswith("<svg")
    assert all(said in drawing for said in ("KL against size", "teacher 0.150 nat", "↑ 90.0 nat"))


def test_errors_below_the_axis_are_counted_in_its_first_bar() -> None:
    sample = np.array([0.0, 0.0, 2e-3, 5e-3])
    axis = strips.error_axis([sample])
    drawing = strips.histogram(sample, axis, 0, "errors")
    assert drawing.count("<rect") == 3


def test_scales_hold_values_outside_at_their_edge() -> None:
    assert svg.Linear(0, 10, 0, 100)(20) == 100
    assert svg.Log(1, 100, 0, 100)(0.001) == 0
    assert svg.Linear(89, 98, 0, 1).ticks(5) == [90, 92, 94, 96, 98]
    assert svg.Log(0.9, 12, 0, 1).ticks() == [1, 2, 5, 10]


def test_names_on_a_crowded_plot_do_not_cover_each_other() -> None:
    taken: list[tradeoff.Box] = []
    for _ in range(8):
        box = tradeoff._place(200.0, 150.0, 90.0, taken)
        assert not any(tradeoff._overlap(box, other) for other in taken)
        taken.append(box)


def test_an_axis_of_percents_ends_at_all_of_them_and_one_of_perplexities_nowhere() -> None:
    frame = svg.Frame(100, 100, 0, 100, 0, 100)
    assert frame.scales([1.0], (90.0, 130.0), 1.0, tradeoff.most("accuracy"))[1].high == 100.4
    _, axis = frame.scales([1.0], (526.4, 550.7), 1.0, tradeoff.most("perplexity"))
    assert axis.ticks(6) == [530.0, 535.0, 540.0, 545.0, 550.0]
