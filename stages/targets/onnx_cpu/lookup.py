"""Run what a converted graph does with token ids alone: the lookup of their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.targets.onnx_cpu import graph
from stages.tasks.base import IDS


def looked_up(converted: Path, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Look up ids with ONNX Runtime.

    Raises:
        ArtifactError: ids are read by anything but one lookup, or that fails.
    """
    import onnxruntime
    from onnx import ValueInfoProto

    model = graph.load(converted / graph.MODEL)
    # Their number is no secret of theirs: batch and length are asked of them.
    readers = [node for node in model.graph.node if IDS in node.input and graph.operator(node) != "Shape"]
    if [(graph.operator(node), node.input[1:]) for node in readers] != [("Gather", [IDS])]:
        ops = ", ".join(graph.operator(node) for node in readers) or "nothing"
        raise ArtifactError(f"'{IDS}' of '{converted}' is read by {ops}", expected="one Gather")
    graph.replace_nodes(model.graph, readers)
    names = set(readers[0].input)
    graph.replace_initializers(model.graph, [item for item in model.graph.initializer if item.name in names])
    inputs = [item for item in model.graph.input if item.name in names]
    del model.graph.output[:], model.graph.input[:]
    model.graph.input.extend(inputs)
    model.graph.output.append(ValueInfoProto(name=readers[0].output[0]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wide = session.get_inputs()[0].type == "tensor(int64)"
        (found,) = session.run(None, {IDS: ids[None].astype(np.int64 if wide else np.int32)})
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        raise ArtifactError(f"onnxruntime cannot look up ids of '{converted}': {first_line(error)}") from error
    return np.asarray(found, np.float32).reshape(len(ids), -1)
