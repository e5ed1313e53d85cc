"""Run a `model.onnx` and keep what every operator computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.base import Inputs
from stages.targets.onnx_cpu import graph

FLOATS = ("tensor(float)", "tensor(float16)")


def intermediates(artifact: Path, inputs: Inputs) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Compute one utterance, every tensor of the graph made an output.

    ONNX Runtime's graph optimisations are off: a fused operator has no tensors inside.

    Yields:
        Operator type, tensor name and value of each float tensor, in order of execution. Integers of a quantised
        graph appear as what their own scale and zero point make of them, where a `DequantizeLinear` does.

    Raises:
        ArtifactError: the model is damaged, or fails when it runs.
    """
    import onnxruntime

    model = graph.load(artifact / graph.MODEL)
    expanded = {**graph.expansions(model), **graph.views(model)}  # weights, which no input changes
    makers = {name: node.op_type for node in model.graph.node for name in node.output if name and name not in expanded}
    known = {item.name for item in model.graph.output}
    model.graph.output.extend(_untyped(name) for name in makers if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_outputs() if item.type in FLOATS]
        given = {item.name: _given(item, inputs) for item in session.get_inputs()}
        values = dict(zip(names, session.run(names, given), strict=True))
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        raise ArtifactError(f"onnxruntime cannot run '{graph.MODEL}': {first_line(error)}") from error
    for name, kind in makers.items():
        if name in values:
            yield kind, name, np.asarray(values[name], np.float32)


def _given(item: Any, inputs: Inputs) -> NDArray[Any]:
    """Return what a graph takes: one of the inputs, or a cache with nothing in it."""
    if item.name in inputs:
        return inputs[item.name].astype(np.int64 if item.type == "tensor(int64)" else np.int32)
    sizes = {"batch": 1, "past": 0}
    return np.zeros([sizes.get(size, size) for size in item.shape], np.float32)


def _untyped(name: str) -> Any:
    import onnx

    return onnx.ValueInfoProto(name=name)
