"""Count the sums that overflow in an integer ONNX graph on x86-64 hosts that have AVX2 and no VNNI.

There ONNX Runtime multiplies uint8 activations by int8 weights with VPMADDUBSW, which adds neighbouring products in
16 bits and clips: other numbers than on a phone. What is counted here are those sums, from the artifact's own
weights and activations, on any host. ONNX Runtime's products under an emulated Haswell equal this arithmetic bit for
bit (tests/targets/onnx_cpu/test_saturation.py). Unsigned weights take another kernel, which is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.targets.onnx_cpu import graph
from stages.tasks.base import INPUTS

LOW, HIGH = -(2**15), 2**15 - 1
Pairs = NDArray[np.int32]


def pair_sums(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> Pairs:
    """Add neighbouring products as VPMADDUBSW does before it clips; [m, k] and [k, n] → [m, ceil(k / 2), n]."""
    odd = activations.shape[1] % 2
    rows = np.pad(activations, ((0, 0), (0, odd))).astype(np.int32)
    columns = np.pad(weights, ((0, odd), (0, 0))).astype(np.int32)
    sums = rows[:, 0::2, None] * columns[None, 0::2] + rows[:, 1::2, None] * columns[None, 1::2]
    return np.asarray(sums)


def can_clip(weights: NDArray[np.int8]) -> bool:
    """Whether two neighbours of a column [k, n] are so large together that some uint8 activations would clip."""
    pairs = np.pad(weights, ((0, len(weights) % 2), (0, 0))).astype(np.int32).reshape(-1, 2, weights.shape[1])
    highest, lowest = np.maximum(pairs, 0).sum(axis=1).max(initial=0), np.minimum(pairs, 0).sum(axis=1).min(initial=0)
    return bool(255 * highest > HIGH or 255 * lowest < LOW)


def saturating_sums(path: Path, split: Mapping[str, NDArray[np.int32]]) -> tuple[int, int]:
    """Run the utterances of a split and count the sums that AVX2 would clip.

    Args:
        path: the model.
        split: `input_ids` and `attention_mask`, int32 [n, max_length], right-padded.

    Returns:
        Sums that clip, and all sums of uint8 activations with int8 weights that can clip; (0, 0) where no weights
        can, whatever the activations are, as none that `quantize` writes (`integers`): then nothing is run.
    """
    model = graph.load(path)
    products = [(name, weights) for name, weights in _signed_products(model) if can_clip(weights)]
    clipped = total = 0
    for values in _activations(model, list(dict.fromkeys(name for name, _ in products)), split) if products else ():
        for name, weights in products:
            found = dynamic_levels(values[name]) if values[name].dtype == np.float32 else values[name]
            if found.dtype == np.uint8:
                sums = pair_sums(found.reshape(-1, weights.shape[0]), weights)
                clipped += int(((sums < LOW) | (sums > HIGH)).sum())
                total += sums.size
    return clipped, total


def _signed_products(model: Any) -> Iterator[tuple[str, NDArray[np.int8]]]:
    """Yield the activations, floats or integers, that a product multiplies by int8 weights, and those as [k, n]."""
    from onnx import TensorProto, numpy_helper

    signed = {
        item.name: numpy_helper.to_array(item) for item in model.graph.initializer if item.data_type == TensorProto.INT8
    }
    signed = graph.viewed(model, signed)
    for node in model.graph.node:
        if node.op_type in {"MatMulInteger", *graph.INTEGER_PRODUCTS} and node.input[1] in signed:
            yield node.input[0], signed[node.input[1]]


def dynamic_levels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Quantise an activation by its own range, as DynamicQuantizeLinear is defined."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    zero = np.clip(np.rint(-np.float32(low) / scale), 0, 255)
    return np.asarray(np.clip(np.rint(values / scale) + zero, 0, 255), np.uint8)


def _activations(
    model: Any, names: list[str], split: Mapping[str, NDArray[np.int32]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the named tensors of one utterance after another, each at its true length."""
    import onnxruntime
    from onnx import ValueInfoProto

    model.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {item.name: np.int64 if item.type == "tensor(int64)" else np.int32 for item in session.get_inputs()}
    for row, length in enumerate(split["attention_mask"].sum(axis=1)):
        feed = {name: split[name][row : row + 1, :length].astype(types[name]) for name in INPUTS}
        yield dict(zip(names, session.run(names, feed), strict=True))
