"""See how far activations reach over the calibration split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.tasks.base import utterances

Ranges = dict[str, tuple[float, float]]


def measure(model: Any, names: Iterable[str], calibration: Mapping[str, NDArray[Any]]) -> Ranges:
    """Run a model over every utterance, at its true length: padding has no range.

    Args:
        model: ModelProto, fp32.
        names: tensors.
        calibration: `input_ids`, `attention_mask` int32 [n, max_length], right-padded.

    Returns:
        Tensor → smallest and largest value.

    Raises:
        InputError: there is no utterance.
    """
    import onnxruntime
    from onnx import ValueInfoProto

    if not calibration["attention_mask"].any():
        raise InputError("the calibration split is empty", expected="at least one utterance")
    wanted = sorted(set(names))
    watched = type(model)()
    watched.CopyFrom(model)
    watched.graph.output.extend(ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    low, high = np.full(len(wanted), np.inf), np.full(len(wanted), -np.inf)
    for inputs in utterances(calibration):
        values = session.run(wanted, inputs)
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    return {name: (float(low[at]), float(high[at])) for at, name in enumerate(wanted)}
