"""Fronts against their definition, hypervolumes against areas counted by hand and by chance."""

import numpy as np
import pytest

from stages.reporting.pareto import front
from stages.sweeping import pareto
from stages.sweeping.pareto import Point

GOALS = ["latency_p50_ms", "size_bytes", "accuracy"]


def point(label, verdict="pass", target="onnx-cpu", **values):
    return Point(label, label, label, "", target, "none", "fp32", verdict, [], values, {})


def cloud(count, seed):
    random = np.random.default_rng(seed)
    return [
        point(f"v{i}", latency_p50_ms=float(a), size_bytes=float(b), accuracy=float(c))
        for i, (a, b, c) in enumerate(random.integers(1, 6, (count, 3)))  # few values: many ties
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_none_beats_in_every_goal(seed):
    points = cloud(40, seed)
    found = {entry.label for entry in front(points, GOALS)}
    for one in points:
        beaten = any(
            other.values["latency_p50_ms"] <= one.values["latency_p50_ms"]
            and other.values["size_bytes"] <= one.values["size_bytes"]
            and other.values["accuracy"] >= one.values["accuracy"]
            and other.values != one.values
            for other in points
        )
        assert (one.label in found) == (not beaten)


def test_only_passing_variants_with_every_goal_are_on_a_front():
    points = [
        point("good", latency_p50_ms=2.0, size_bytes=2.0, accuracy=0.9),
        point("broken", "fail", latency_p50_ms=1.0, size_bytes=1.0, accuracy=0.95),
        point("screened", None, size_bytes=1.0),
        point("untimed", size_bytes=1.0, accuracy=0.95),
    ]
    assert [entry.label for entry in front(points, GOALS)] == ["good"]


def test_a_goal_that_a_platform_never_measured_is_no_goal_there():
    points = [point("a", size_bytes=1.0, accuracy=0.9), point("b", "fail", latency_p50_ms=1.0)]
    assert pareto.goals_of(points, GOALS) == ["size_bytes", "accuracy"]


def test_hypervolume_of_boxes_counted_by_hand():
    assert pareto.hypervolume([(0.5,)]) == 0.5
    assert pareto.hypervolume([(0.5, 0.5)]) == 0.25
    assert pareto.hypervolume([(0.25, 0.5), (0.5, 0.25)]) == pytest.approx(0.375 + 0.125)
    assert pareto.hypervolume([(0.5, 0.5, 0.5), (0.5, 0.5, 0.5)]) == 0.125
    assert pareto.hypervolume([(0.0, 1.0), (1.0, 0.0)]) == 0.0
    assert pareto.hypervolume([]) == 0.0


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_hypervolume_is_the_share_of_random_points_that_are_dominated(dimensions):
    random = np.random.default_rng(dimensions)
    vectors = random.random((12, dimensions))
    samples = random.random((20000, dimensions))
    dominated = (vectors[None] <= samples[:, None]).all(axis=2).any(axis=1).mean()
    assert pareto.hypervolume([tuple(map(float, vector)) for vector in vectors]) == pytest.approx(dominated, abs=0.02)


def test_hypervolume_never_shrinks_and_grows_only_with_what_beats_something():
    trials = [[entry] for entry in cloud(30, 7)]
    volumes = pareto.progress(trials, GOALS)
    assert volumes == sorted(volumes)
    assert 0 < volumes[0] < volumes[-1] <= 1
    assert pareto.progress([[point("a", "fail", accuracy=0.9)]], GOALS) == [0.0]
