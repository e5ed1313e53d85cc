"""ONNX graphs as clients feed them: int64 ids, or text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.bundling.source import Source
from stages.bundling.tokenization import BERT_TOKENS, Tokenization, lines
from stages.core.errors import ArtifactError, first_line
from stages.targets.base import INPUTS, OUTPUTS, Inputs
from stages.targets.onnx_cpu import graph

EXTENSIONS = "ai.onnx.contrib"
"""The domain of onnxruntime-extensions' operators."""
TEXT, PROBABILITIES = "text", "probabilities"
ROWS = ("row_ids", "row_mask")
"""What the tokenizer gives, int64 [n]."""


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
    _replace_nodes(model.graph, [*casts, *model.graph.node])


def take_text(model: Any, tokenization: Tokenization, labels: int) -> None:
    """Put tokenizer and softmax into a graph that takes int64, in place.

    Before: input_ids, attention_mask [batch, n] → logits. After: text [1] → BertTokenizer → Unsqueeze × 2 → … →
    logits, probabilities [1, labels].
    """
    from onnx import TensorProto, helper

    tokenizer = helper.make_node(
        "BertTokenizer",
        [TEXT],
        [ROWS[0], "row_segments", ROWS[1]],
        "BertTokenizer",
        domain=EXTENSIONS,
        vocab_file=lines(tokenization.vocabulary or []),
        do_lower_case=1,
        strip_accents=1,  # its default strips none, BERT's normaliser does where it lower-cases
        suffix_indicator="##",
        **BERT_TOKENS,
        pad_token=tokenization.special["pad_token"][0],
        truncation_strategy_name="longest_first",
        max_length=tokenization.max_length,
    )
    rows = [
        helper.make_node("Unsqueeze", [row, "first_axis"], [name], f"Unsqueeze_{name}")
        for row, name in zip(ROWS, INPUTS, strict=True)
    ]
    softmax = helper.make_node("Softmax", list(OUTPUTS), [PROBABILITIES], "Softmax_probabilities", axis=-1)
    model.graph.initializer.append(helper.make_tensor("first_axis", TensorProto.INT64, [1], [0]))
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(TEXT, TensorProto.STRING, [1]))
    model.graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [1, labels]))
    _replace_nodes(model.graph, [tokenizer, *rows, *model.graph.node, softmax])
    model.opset_import.append(helper.make_opsetid(EXTENSIONS, 1))


def behind_tokenizer(model: Any) -> Any:
    """Return what lies behind the tokenizer of a text graph: what ONNX Runtime runs without an extension library."""
    from onnx import TensorProto, helper

    rest = type(model).FromString(model.SerializeToString())
    del rest.graph.node[0], rest.graph.input[:]
    rest.graph.input.extend(helper.make_tensor_value_info(row, TensorProto.INT64, ["sequence"]) for row in ROWS)
    return rest


def check_int64(source: Source, path: Path, form: str) -> None:
    """Run a written graph beside the artifact.

    Raises:
        ArtifactError: ONNX Runtime does not open it, it takes other types, or it answers otherwise.
    """
    session = open_session(path.read_bytes(), form)
    found = {item.name: item.type for item in session.get_inputs()}
    if found != dict.fromkeys(INPUTS, "tensor(int64)"):
        raise ArtifactError(f"'{form}' takes {found}", expected=f"int64 {' and '.join(INPUTS)}")

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(
            list(OUTPUTS), {name: inputs[name].astype(np.int64) for name in INPUTS}
        )[0]
        return logits

    source.check(form, answer)


def open_session(content: bytes, form: str) -> Any:
    """Open a graph with ONNX Runtime on one core.

    Raises:
        ArtifactError: it does not open.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        raise ArtifactError(f"onnxruntime cannot open '{form}': {first_line(error)}") from error


def _replace_nodes(chart: Any, nodes: list[Any]) -> None:
    copied = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del chart.node[:]
    chart.node.extend(copied)
