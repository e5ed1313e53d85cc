"""ONNX graphs as Hugging Face clients feed them, and how a form of a graph is compared with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ArtifactError, first_line
from stages.releasing.source import Answer, Source
from stages.targets.base import Inputs
from stages.targets.onnx_cpu import graph
from stages.targets.onnx_cpu.runtime import DTYPES
from stages.tasks.base import INPUTS


def int64_copy(artifact: Path) -> Any:
    """Read an artifact's graph with int64 inputs."""
    model = graph.load(artifact / graph.MODEL)
    take_int64(model)
    return model


def take_int64(model: Any) -> None:
    """Give the inputs of an int32 graph the type that Hugging Face clients feed, in place.

    Before: input_ids int32 → …; Transformers.js stops: `Unexpected input data type. Actual: (tensor(int64))`.
    After: input_ids int64 → Cast → …, one per input.
    """
    from onnx import TensorProto, helper

    narrow = [item for item in model.graph.input if item.type.tensor_type.elem_type == TensorProto.INT32]
    renamed = {item.name: f"{item.name}_int32" for item in narrow}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
    for item in narrow:
        item.type.tensor_type.elem_type = TensorProto.INT64
    casts = [
        helper.make_node("Cast", [old], [new], f"Cast_{old}", to=TensorProto.INT32) for old, new in renamed.items()
    ]
    replace_nodes(model.graph, [*casts, *model.graph.node])


def check_int64(source: Source, path: Path, form: str) -> None:
    """Run a written graph beside the artifact.

    Raises:
        ArtifactError: ONNX Runtime does not open it, it takes other types, or it answers otherwise.
    """
    session = open_session(path.read_bytes(), form)
    found = {item.name: item.type for item in session.get_inputs()}
    if found != dict.fromkeys(INPUTS, "tensor(int64)"):
        raise ArtifactError(f"'{form}' takes {found}", expected=f"int64 {' and '.join(INPUTS)}")
    source.check(form, lambda inputs: answer(session, inputs), artifact_answer(source), batches=True)


def open_session(content: bytes, form: str, *, rewrite: bool = False, save: Path | None = None) -> Any:
    """Open a graph with ONNX Runtime on one core, as it is written.

    Left to rewrite it, ONNX Runtime may add in another order because another operator stands at the edge, and the last
    bits would tell nothing of the form any more.

    Args:
        content: the file.
        form: its name, for the message.
        rewrite: fuse operators all the same, those that depend on the host's CPU aside.
        save: where to write the graph in ONNX Runtime's format, None not to.

    Raises:
        ArtifactError: it does not open.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED if rewrite else levels.ORT_DISABLE_ALL
    if save is not None:
        options.optimized_model_filepath = str(save)
        options.add_session_config_entry("session.save_model_format", "ORT")
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        raise ArtifactError(f"onnxruntime cannot open '{form}': {first_line(error)}") from error


def answer(session: Any, inputs: Inputs) -> NDArray[np.float32]:
    """Return logits, fp32 [batch, labels], from a session that takes ids of either width."""
    feed = {item.name: inputs[item.name].astype(DTYPES[item.type]) for item in session.get_inputs()}
    logits: NDArray[np.float32] = session.run(["logits"], feed)[0]
    return logits


def artifact_answer(source: Source) -> Answer:
    """Return what asks the artifact, opened as the forms are."""
    session = open_session((source.artifact / graph.MODEL).read_bytes(), graph.MODEL)
    return lambda inputs: answer(session, inputs)


def replace_nodes(chart: Any, nodes: list[Any]) -> None:
    """Make `nodes`, some of which it may hold already, the nodes of a graph."""
    copied = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del chart.node[:]
    chart.node.extend(copied)
