"""Find which weights of a TFLite file bear the lower of two precisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.schema.variant import Mixed
from stages.targets import mixing
from stages.targets.tflite_nnapi import flatbuffer, lowering
from stages.targets.tflite_nnapi.runtime import open_runtime


@dataclass
class Group:
    """A weight, with all operators that read it, in every signature.

    Attributes:
        weight: its name in the file, which lowering keeps.
        lookup: whether it is a table.
        scopes: names of what the operators compute, by which ai-edge-quantizer knows them.
    """

    weight: str
    lookup: bool
    scopes: list[str] = field(default_factory=list)


def groups(model: Any) -> dict[str, Group]:
    """List the weights of a float file by the path of their module, `bert.encoder.0.output.dense`."""
    found = {
        weight.buffer: Group(weight.name, weight.operator == "EMBEDDING_LOOKUP") for weight in flatbuffer.weights(model)
    }
    for graph in model.subgraphs:
        for name, op in flatbuffer.operators_of(model, graph):
            position = flatbuffer.WEIGHT_INPUT.get(name)
            buffer = None if position is None else int(graph.tensors[op.inputs[position]].buffer)
            if buffer in found:
                found[buffer].scopes.append(graph.tensors[op.outputs[0]].name.decode())
    paths = {buffer: group.weight.partition("#")[0].replace("/", ".") for buffer, group in found.items()}
    # Modules that share a weight, or a weight folded in several ways, are told apart by their buffers.
    repeated = [path for path in paths.values() if list(paths.values()).count(path) > 1]
    return {f"{path}@{buffer}" if path in repeated else path: found[buffer] for buffer, path in paths.items()}


def recipe(model: Any, precision: Mixed, low: Collection[str]) -> lowering.Recipe:
    """Write the recipe that gives the weights named by `low` the low precision and the others the high one."""
    scopes = [scope for name, group in groups(model).items() if name in low for scope in group.scopes]
    return lowering.recipe_of_mixture(model, precision.low, precision.high, scopes)


def find(converted: Path, precision: Mixed, calibration: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Choose the weights to lower: see `mixing.choose`."""
    source = converted / flatbuffer.MODEL
    model = flatbuffer.read(source)

    def lower(low: frozenset[str], out: Path) -> int:
        written = lowering.lower(source, recipe(model, precision, low), {})
        flatbuffer.write(flatbuffer.parse(written, flatbuffer.MODEL), out / flatbuffer.MODEL)
        return (out / flatbuffer.MODEL).stat().st_size

    names = [name for name, group in groups(model).items() if precision.among == "all" or group.lookup]
    return mixing.choose(names, precision, calibration, converted, lower, open_runtime)
