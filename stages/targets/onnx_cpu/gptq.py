"""Round matrices so that what a level is off is made up for by the levels after it, as activations weigh them.

Source: Frantar, Ashkboos, Hoefler & Alistarh, GPTQ (2023), section 3, columns in their order, with two changes: the
scale of a block of 32 is the one of a few that loses least, each column weighed by the mean square of its activation;
and no weight moves further than `WITHIN` levels from its own number, so that each can still be held to its source.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.targets.onnx_cpu import graph, integers
from stages.targets.onnx_cpu.products import Linear, Round, linears
from stages.tasks.base import IDS, MASK, utterances

Floats = NDArray[np.float32]
FACTORS = (8 / 9, 0.93, 0.97, 1.04, 1.09, -1.0, -0.93, -1.09)
"""Scales that are tried, over the one by which a block's largest magnitude is -8. Shorter ones clip a level at most,
turned ones two."""
WITHIN = 2.0
"""Levels between a weight and what is stored of it, at most."""
DAMPING = 0.03
"""Of the mean of the diagonal, added to it (section 3.3): activations of few texts do not span the whole width."""
COLUMNS = 64
"""Whose errors reach the columns behind them together."""


def rounder(model: Any, factors: Collection[str], calibration: Mapping[str, NDArray[Any]]) -> Round:
    """Measure a converted model's activations, and return what rounds its matrices by them.

    Args:
        model: ModelProto, fp32.
        factors: weights of linear layers that are to be rounded.
        calibration: see `moments`.
    """
    makers = {name: node for node in model.graph.node for name in node.output}

    def whole(name: str) -> str:
        """What a head reads is of one position; what that was picked from is of all."""
        maker = makers.get(name)
        picked = maker is not None and maker.op_type == "Gather" and maker.input[0] in makers
        return str(maker.input[0]) if picked and maker is not None else name

    sources = {linear.weight: whole(linear.source) for linear in linears(model) if linear.weight in factors}
    found = moments(model, sources.values(), calibration)
    last: dict[str, Floats] = {}

    def round_(linear: Linear, matrix: Floats, shared: bool) -> tuple[NDArray[np.int8], Floats]:
        source = sources[linear.weight]
        if shared:
            return nearest(matrix, np.diag(found[source]))
        if source not in last:
            last.clear()  # layers come in order, and those that read one activation together
            last[source] = spread(found[source])
        return rounded(matrix, found[source], last[source])

    return round_


def moments(model: Any, names: Iterable[str], calibration: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """Run a converted model over the calibration texts, each in one call.

    Args:
        model: ModelProto, fp32; its outputs are changed, and changed back.
        names: activations.
        calibration: `input_ids`, `attention_mask` int32 [n, max_length], right-padded.

    Returns:
        Activation → mean of its outer product with itself, fp32 [width, width].

    Raises:
        InputError: there is no text.
    """
    import onnxruntime
    from onnx import ValueInfoProto

    if not calibration[MASK].any():
        raise InputError("the calibration split is empty", expected="at least one text")
    wanted, count = sorted(set(names)), len(model.graph.output)
    model.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as scratch:  # from a file: as bytes it would be in memory once more
        path = Path(scratch) / graph.MODEL
        path.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    del model.graph.output[count:]
    empty = {
        item.name: np.zeros([1, *(axis if isinstance(axis, int) else 0 for axis in item.shape[1:])], np.float32)
        for item in session.get_inputs()
        if item.name.startswith(graph.PAST_VALUES)
    }
    wide = {item.name: item.type == "tensor(int64)" for item in session.get_inputs()}
    found: dict[str, Floats] = {}
    tokens = 0
    for inputs in utterances(calibration):
        if not inputs[IDS].size:
            continue
        fed = {name: value.astype(np.int64 if wide[name] else np.int32) for name, value in inputs.items()}
        tokens += inputs[IDS].size
        for name, value in zip(wanted, session.run(wanted, fed | empty), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            found[name] = found.get(name, np.float32(0)) + rows.T @ rows
    return {name: value / np.float32(tokens) for name, value in found.items()}


def scales(matrix: Floats, weights: Floats) -> Floats:
    """Choose the scale of every block of 32: fp32 [out, blocks].

    Args:
        matrix: fp32 [out, in].
        weights: fp32 [in], what the square of an error counts.
    """
    rows, width = matrix.shape
    pad = -width % integers.BLOCK
    blocks = np.pad(matrix, ((0, 0), (0, pad))).reshape(rows, -1, integers.BLOCK)
    counts = np.pad(weights, (0, pad)).reshape(1, -1, integers.BLOCK)
    _, first = integers.blocks(matrix)
    best, least = first, _lost(blocks, first, counts)
    for factor in FACTORS:
        scale = first * np.float32(factor)
        lost = _lost(blocks, scale, counts)
        best, least = np.where(lost < least, scale, best), np.minimum(lost, least)
    return np.asarray(best, np.float32)


def _lost(blocks: Floats, scale: Floats, counts: Floats) -> Floats:
    steps = scale[..., None]
    error = np.clip(np.rint(blocks / steps), integers.LOWEST, integers.HIGHEST) * steps - blocks
    return np.asarray((np.square(error) * counts).sum(axis=2), np.float32)


def nearest(matrix: Floats, weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round to the nearest level of the best scale: what a table is that words are looked up in too.

    Returns:
        As `integers.blocks`.
    """
    scale = scales(matrix, weights)
    levels = np.rint(matrix / integers.per_element(scale, matrix.shape[1]))
    return np.clip(levels, integers.LOWEST, integers.HIGHEST).astype(np.int8), scale


def spread(moment: Floats) -> Floats:
    """Return how an error in one column is handed on to those after it: fp32 [in, in], upper triangular.

    The Cholesky factor of the inverse of the damped moment (section 3.3).
    """
    damped = moment.astype(np.float64)
    damped += np.eye(len(damped)) * max(DAMPING * float(np.diag(damped).mean()), float(np.finfo(np.float32).tiny))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T, np.float32)


def rounded(matrix: Floats, moment: Floats, handed_on: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round a matrix column by column.

    Args:
        matrix: fp32 [out, in].
        moment: of its activation, fp32 [in, in].
        handed_on: `spread` of it.

    Returns:
        As `integers.blocks`.
    """
    scale = scales(matrix, np.diag(moment))
    steps, width = integers.per_element(scale, matrix.shape[1]), matrix.shape[1]
    own, left = matrix / steps, matrix.copy()
    low, high = np.ceil(own - WITHIN), np.floor(own + WITHIN)
    levels = np.empty(matrix.shape, np.int8)
    for start in range(0, width, COLUMNS):
        end = min(start + COLUMNS, width)
        part, errors = left[:, start:end].copy(), np.empty((len(matrix), end - start), np.float32)
        for at, column in enumerate(range(start, end)):
            level = np.clip(np.rint(part[:, at] / steps[:, column]), low[:, column], high[:, column])
            level = np.clip(level, integers.LOWEST, integers.HIGHEST)
            levels[:, column] = level
            errors[:, at] = (part[:, at] - level * steps[:, column]) / handed_on[column, column]
            part[:, at:] -= errors[:, at, None] * handed_on[None, column, column:end]
        left[:, end:] -= errors @ handed_on[start:end, end:]
    return levels, scale
