"""How many bytes of activations are alive at once when a graph is executed in the order of its file."""

from __future__ import annotations

from collections.abc import Iterable

from stages.accelerators.graph import Graph, Tensor

BYTES = {
    "bool": 1,
    "float": 4,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "int8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint8": 1,
}
"""Type of an element, in lower case, as formats call it → its bytes."""


def activation_bytes(graphs: Iterable[Graph]) -> dict[str, float]:
    """Return the metric `activation_bytes`, of the call that has most; nothing where a size is not known.

    A value lives from the operator that makes it to the last that reads it, an input from the start, a result to the
    end, and no operator writes into what it reads: what a planner of memory without gaps would need (the lower bound of
    Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    peaks = [_peak(graph) for graph in graphs]
    known = [peak for peak in peaks if peak is not None]
    return {"activation_bytes": float(max(known))} if known and len(known) == len(peaks) else {}


def _peak(graph: Graph) -> int | None:
    last, made, sizes = dict[str, int](), dict[str, int](), dict[str, int | None]()
    for index, one in enumerate(graph.operators):
        for tensor in one.tensors:
            if not tensor.constant and tensor.name:
                sizes[tensor.name] = _bytes(tensor)
                made.setdefault(tensor.name, index if tensor in one.outputs else 0)
        last |= {tensor.name: index for tensor in one.given}
    changes = [0] * (len(graph.operators) + 1)
    for name, size in sizes.items():
        if size is None:
            return None
        changes[made[name]] += size
        changes[last.get(name, len(graph.operators) - 1) + 1] -= size
    peak = alive = 0
    for change in changes:
        alive += change
        peak = max(peak, alive)
    return peak


def _bytes(tensor: Tensor) -> int | None:
    width = BYTES.get(tensor.dtype.lower())
    return None if width is None or tensor.shape is None else width * tensor.size
