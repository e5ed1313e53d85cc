"""`text/model.onnx`: text in, probabilities out, with the tokenizer in the graph (onnxruntime-extensions)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.measure.metrics import softmax
from stages.releasing import onnx_forms
from stages.releasing.source import ROUNDING, Source, differs
from stages.releasing.tokenization import BERT_TOKENS, Tokenization, lines
from stages.targets.base import Inputs
from stages.targets.onnx_cpu import graph
from stages.tasks.base import INPUTS

FORM = "text/model.onnx"
EXTENSIONS = "ai.onnx.contrib"
"""The domain of onnxruntime-extensions' operators."""
TEXT, PROBABILITIES = "text", "probabilities"
ROWS = ("row_ids", "row_mask")
"""What the tokenizer gives, int64 [n]."""


def write(source: Source, bundle: Path) -> str:
    """Write the graph, and run what lies behind its tokenizer beside the artifact.

    The tokenizer itself needs a library that the build does not install: the client gate asks it.

    Raises:
        ArtifactError: the graph answers otherwise than the artifact.
    """
    model = onnx_forms.int64_copy(source.artifact)
    take_text(model, source.tokenization, len(source.labels))
    (bundle / FORM).parent.mkdir()
    graph.write(model, bundle / FORM)
    session = onnx_forms.open_session(behind_tokenizer(model).SerializeToString(), FORM)

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        rows = dict(zip(ROWS, (inputs[name][0].astype(np.int64) for name in INPUTS), strict=True))
        logits, found = session.run(["logits", PROBABILITIES], rows)
        wanted = softmax(logits)
        if not np.abs(found - wanted).max() <= ROUNDING:
            raise differs(FORM, source.key, found, wanted)
        return np.asarray(logits)

    source.check(FORM, answer, onnx_forms.artifact_answer(source))
    return FORM


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
        **tokenizer_settings(tokenization),
    )
    rows = [
        helper.make_node("Unsqueeze", [row, "first_axis"], [name], f"Unsqueeze_{name}")
        for row, name in zip(ROWS, INPUTS, strict=True)
    ]
    softmax = helper.make_node("Softmax", ["logits"], [PROBABILITIES], "Softmax_probabilities", axis=-1)
    model.graph.initializer.append(helper.make_tensor("first_axis", TensorProto.INT64, [1], [0]))
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(TEXT, TensorProto.STRING, [1]))
    model.graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [1, labels]))
    onnx_forms.replace_nodes(model.graph, [tokenizer, *rows, *model.graph.node, softmax])
    model.opset_import.append(helper.make_opsetid(EXTENSIONS, 1))


def tokenizer_settings(tokenization: Tokenization) -> dict[str, Any]:
    """Return the attributes of the operator that tokenises."""
    return {
        "vocab_file": lines(tokenization.lines or []),
        "do_lower_case": 1,
        "strip_accents": 1,  # its default strips none, BERT's normaliser does where it lower-cases
        "suffix_indicator": "##",
        **BERT_TOKENS,
        "pad_token": tokenization.special["pad_token"][0],
        "truncation_strategy_name": "longest_first",
        "max_length": tokenization.max_length,
    }


def behind_tokenizer(model: Any) -> Any:
    """Return what lies behind the tokenizer of a text graph: what ONNX Runtime runs without an extension library."""
    from onnx import TensorProto, helper

    rest = type(model).FromString(model.SerializeToString())
    del rest.graph.node[0], rest.graph.input[:]
    rest.graph.input.extend(helper.make_tensor_value_info(row, TensorProto.INT64, ["sequence"]) for row in ROWS)
    return rest


def differences(path: Path, source: Tokenization) -> Iterator[str]:
    """Compare the tokenizer in a text graph with a bundle's own."""
    from onnx import helper

    node = graph.load(path).graph.node[0]
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    plain = {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items()}
    if plain != tokenizer_settings(source):
        yield f"the tokenizer in '{FORM}' is not the bundle's"
