"""Measure what each accelerator of a target takes of an artifact."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, cast

from stages.accelerators.graph import Accelerator, Graph, Operator, Refusal
from stages.accelerators.partitions import partitions
from stages.core.errors import ArtifactError
from stages.core.names import module_name
from stages.measure.registry import accelerated
from stages.schema.covered import Coverage, Listed, Refused, Taken


class Accelerated(Protocol):
    """What `stages/accelerators/NAME.py` says of a target.

    Attributes:
        ACCELERATORS: all that is known to execute its artifacts, or parts of them.
    """

    ACCELERATORS: tuple[Accelerator, ...]

    def graphs(self, artifact: Path) -> list[Graph]:
        """Read what each call of an artifact computes.

        Raises:
            ArtifactError: it is missing or damaged.
        """

    def needs(self, graphs: Sequence[Graph]) -> dict[str, float]:
        """Return what they ask of any device, as far as the format tells: metric → number."""


def of_target(target: str) -> Accelerated:
    """Find a target's module."""
    return cast(Accelerated, importlib.import_module(f"stages.accelerators.{module_name(target)}"))


def cover(target: str, artifact: Path) -> Coverage:
    """Say of every accelerator what it takes of an artifact.

    Raises:
        ArtifactError: the artifact is missing, damaged, or computes nothing.
    """
    graphs = of_target(target).graphs(artifact)
    if not graphs or any(not graph.operators for graph in graphs):
        raise ArtifactError(f"'{artifact}' computes nothing", next_step="run `dvc repro`")
    return told(target, graphs)


def told(target: str, graphs: Sequence[Graph]) -> Coverage:
    """Say of every accelerator of a target what it takes of graphs, and what these need of any device."""
    known = of_target(target)
    found = {one.name: _taken(one, graphs) for one in known.ACCELERATORS}
    values = dict(known.needs(graphs))
    for name, taken in found.items():
        values |= dict(zip(accelerated(name), (taken["sure_macs"], taken["partitions"]), strict=True))
    counts = dict.fromkeys(values, sum(len(graph.operators) for graph in graphs))
    return {
        "accelerators": found,
        "counts": counts,
        "graphs": {graph.name: [_listed(one) for one in graph.operators] for graph in graphs},
        "status": "measured",
        "target": target,
        "values": values,
    }


def _taken(accelerator: Accelerator, graphs: Sequence[Graph]) -> Taken:
    said = [accelerator.judge(graph) for graph in graphs]
    runs = [partitions(graph, [_is_taken(refusal) for refusal in one]) for graph, one in zip(graphs, said, strict=True)]
    if accelerator.one_part:
        runs = [[max(one, key=len)] if one else [] for one in runs]
    executed = [{index for run in one for index in run} for one in runs]
    taken = [
        [index in one for index in range(len(graph.operators))] for one, graph in zip(executed, graphs, strict=True)
    ]
    sure = [
        [yes and refusal is None for yes, refusal in zip(*pair, strict=True)] for pair in zip(taken, said, strict=True)
    ]
    planned = next((graph.planned for graph in graphs if graph.planned), "")
    return {
        "basis": "measured" if planned else accelerator.basis,
        # Of the call that fares worst: nobody makes all of them at once.
        "macs": min(map(_share_of_macs, graphs, taken)),
        "operators": min(sum(one) / len(one) for one in taken),
        "partitions": max(map(len, runs)),
        "refused": _grouped(graphs, said),
        "source": planned or accelerator.source,
        "sure_macs": min(map(_share_of_macs, graphs, sure)),
        "sure_operators": min(sum(one) / len(one) for one in sure),
        "title": accelerator.title,
    }


def _is_taken(refusal: Refusal | None) -> bool:
    return refusal is None or refusal.doubt


def _share_of_macs(graph: Graph, taken: Sequence[bool]) -> float:
    """Return the share of a graph's multiply-accumulates, of its operators where it has none."""
    weights = [operator.macs for operator in graph.operators]
    if not any(weights):
        weights = [1] * len(weights)
    return sum(weight for weight, yes in zip(weights, taken, strict=True) if yes) / sum(weights)


def _grouped(graphs: Sequence[Graph], said: Sequence[Sequence[Refusal | None]]) -> list[Refused]:
    """Collect operators that are refused for the same reason, those that cost most first."""
    groups: dict[tuple[str, Refusal], list[tuple[Graph, int]]] = {}
    for graph, one in zip(graphs, said, strict=True):
        for index, refusal in enumerate(one):
            if refusal is not None:
                groups.setdefault((graph.operators[index].kind, refusal), []).append((graph, index))
    found: list[Refused] = [
        {
            "cure": refusal.cure,
            "doubt": refusal.doubt,
            "macs": max(_share_of_macs(graph, _only(graph, places)) for graph, _ in places),
            "modules": sorted({graph.operators[index].module for graph, index in places} - {""}),
            "operator": kind,
            "places": {name: [index for graph, index in places if graph.name == name] for name in _names(places)},
            "reason": refusal.reason,
        }
        for (kind, refusal), places in groups.items()
    ]
    return sorted(found, key=lambda one: (-one["macs"], one["operator"], one["reason"]))


def _only(graph: Graph, places: Iterable[tuple[Graph, int]]) -> list[bool]:
    mine = {index for other, index in places if other is graph}
    return [index in mine for index in range(len(graph.operators))]


def _names(places: Iterable[tuple[Graph, int]]) -> list[str]:
    return list(dict.fromkeys(graph.name for graph, _ in places))


def _listed(operator: Operator) -> Listed:
    result = operator.outputs[0]
    return {
        "dtype": result.dtype,
        "macs": operator.macs,
        "module": operator.module,
        "name": result.name,
        "operator": operator.kind,
        "shape": None if result.shape is None else list(result.shape),
    }
