"""Measure every row of one checkpoint, and ours against the best peer of each class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import building, profiling, quality, timing
from benchmarks.peers.building import Cost
from benchmarks.peers.recipes import Recipe
from benchmarks.peers.timing import Contender, Samples, Tokens
from stages.core import artifact

LENGTHS = (12, 64)
GOALS = {
    ("fp32", "12"): 1.1,
    ("fp32", "64"): 1.1,
    ("fp32", "true"): 1.1,
    ("reduced", "12"): 1.4,
    ("reduced", "64"): 1.25,
    ("reduced", "true"): 1.4,
}
"""(class, inputs) → how many times faster than the best peer we want to be; 12 tokens stand for the true length."""
SIZE_GOAL = 0.6
TOLERANCE = 0.005
"""Accuracy a row may lose to its checkpoint and still count in the comparison of sizes."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        repeats: of everything, to see the spread between moments of the host.
        rounds: turns at each fixed length.
        utterances: of the test split, each one turn.
    """

    repeats: int
    rounds: int
    utterances: int


def measure(
    recipes: Sequence[Recipe], costs: Mapping[str, Cost], reference: Path, effort: Effort, *, trained: bool
) -> dict[str, Any]:
    """Measure one checkpoint.

    Args:
        recipes: its rows.
        costs: of its steps.
        reference: `reference/none` of our build: the test split and the checkpoint's own answers.
        effort: how long.
        trained: whether answers mean anything.

    Returns:
        `rows`, `comparisons`, `sizes`, `profiles`, `loads` (load averages between repeats).
    """
    rows = {recipe.name: _row(recipe, costs) for recipe in recipes}
    models = {recipe.name: recipe.model for recipe in recipes if "failure" not in rows[recipe.name]}
    contenders = {name: timing.open_model(model) for name, model in models.items()}
    split = artifact.read_arrays(reference / "test.npz")
    for name, contender in contenders.items():
        found = quality.measure(contender, split) if trained else {"not_measured": "random weights"}
        rows[name]["quality"] = found
    inputs = _inputs(split, effort.utterances)
    turns, loads = _repeat(contenders, inputs, effort)
    for name in contenders:
        rows[name]["latency_ms"] = {
            kind: timing.describe(np.concatenate([turn[kind][name] for turn in turns])) for kind in inputs
        }
    comparisons = compare(rows, turns)
    chosen = {row for one in comparisons for row in (one["ours"], one["peer"])}
    profiles = {
        f"{name} {kind}": profiling.profile(models[name], inputs[kind][0])
        for name in sorted(chosen)
        for kind in ("12", "64")
    }
    return {
        "comparisons": comparisons,
        "loads": loads,
        "profiles": profiles,
        "rows": list(rows.values()),
        "sizes": compare_sizes(rows) if trained else {"not_measured": "random weights"},
    }


def _row(recipe: Recipe, costs: Mapping[str, Cost]) -> dict[str, Any]:
    cost = building.total(recipe, costs)
    row: dict[str, Any] = {"builder": recipe.builder, "name": recipe.name, "precision": recipe.precision}
    failure = cost.failure or building.loads(recipe.model)
    if failure:
        return row | {"failure": failure}
    spent = {"build_cpu_s": cost.cpu_s, "build_wall_s": cost.wall_s, "build_peak_rss_bytes": cost.peak_rss_bytes}
    return row | spent | {"size_bytes": recipe.model.stat().st_size}


def _inputs(split: quality.Split, count: int) -> dict[str, list[Tokens]]:
    random = np.random.default_rng(0)
    vocabulary = int(split["input_ids"].max()) + 1
    utterances = quality.true_lengths(split)
    fixed = {str(n): [random.integers(1, vocabulary, (1, n), dtype=np.int32)] for n in LENGTHS}
    chosen = random.choice(len(utterances), min(count, len(utterances)), replace=False)
    return fixed | {"true": [utterances[row] for row in chosen]}


def _repeat(
    contenders: Mapping[str, Contender], inputs: Mapping[str, list[Tokens]], effort: Effort
) -> tuple[list[dict[str, dict[str, Samples]]], list[float]]:
    turns, loads = [], []
    for _ in range(effort.repeats):
        loads.append(os.getloadavg()[0])
        turns.append(
            {
                kind: timing.interleave(contenders, utterances, effort.rounds if len(utterances) == 1 else 1)
                for kind, utterances in inputs.items()
            }
        )
    return turns, loads


def compare(
    rows: Mapping[str, dict[str, Any]], turns: Sequence[Mapping[str, Mapping[str, Samples]]]
) -> list[dict[str, Any]]:
    """Hold our fastest row of each class and input against the fastest peer.

    Args:
        rows: row name → what was measured of it.
        turns: per repeat: inputs → row name → samples.

    Returns:
        Per class and input `ours`, `peer`, what `timing.compare` finds over all repeats, the ratio of each repeat,
        `goal` and whether it is `met`.
    """
    found = []
    for (precision, kind), goal in GOALS.items():
        joined = {name: np.concatenate([turn[kind][name] for turn in turns]) for name in turns[0][kind]}
        medians = {name: float(np.median(joined[name])) for name in joined if rows[name]["precision"] == precision}
        ours = {name for name in medians if rows[name]["builder"] == "tinsmith"}
        if not ours or ours == set(medians):
            continue
        own, peer = min(ours, key=medians.__getitem__), min(set(medians) - ours, key=medians.__getitem__)
        measured = timing.compare(joined[peer], joined[own])
        repeats = [float(np.median(turn[kind][peer] / turn[kind][own])) for turn in turns]
        verdict = {"goal": goal, "met": measured["ratio"] >= goal, "repeats": repeats}
        found.append({"class": precision, "inputs": kind, "ours": own, "peer": peer, **measured, **verdict})
    return found


def compare_sizes(rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Hold our smallest row against the smallest peer, both within `TOLERANCE` of the checkpoint's accuracy."""
    good = [row for row in rows.values() if "failure" not in row and row["quality"]["drop"] <= TOLERANCE]
    smallest = {
        side: min((row for row in good if (row["builder"] == "tinsmith") == ours), key=lambda row: row["size_bytes"])
        for side, ours in {"ours": True, "peer": False}.items()
    }
    ratio = smallest["ours"]["size_bytes"] / smallest["peer"]["size_bytes"]
    names = {side: row["name"] for side, row in smallest.items()}
    return {**names, "ratio": ratio, "goal": SIZE_GOAL, "met": ratio <= SIZE_GOAL}
