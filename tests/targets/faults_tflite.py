"""Faults to inject into TFLite artifacts: what a gate must catch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.targets.tflite_nnapi import flatbuffer


def zero_tflite_layer(path: Path) -> None:
    """Set the largest FULLY_CONNECTED weight to zero in place, at whatever precision it is stored.

    Args:
        path: a `model.tflite`, or the artifact directory that holds it.

    Raises:
        ValueError: the graph has no constant FULLY_CONNECTED weight.
    """
    file = path / flatbuffer.MODEL if path.is_dir() else path
    model = flatbuffer.read(file)
    layers = [weight for weight in flatbuffer.weights(model) if weight.operator == "FULLY_CONNECTED"]
    if not layers:
        raise ValueError(f"'{file}' has no constant FULLY_CONNECTED weight")
    largest = max(layers, key=lambda weight: weight.size_bytes)
    # Weights are symmetric in LiteRT: their zero point is 0 at every precision.
    model.buffers[largest.buffer].data = np.zeros(largest.size_bytes, np.uint8)
    flatbuffer.write(model, file)
