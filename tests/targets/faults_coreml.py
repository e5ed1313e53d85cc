"""Faults to inject into Core ML artifacts: what a gate must catch."""

from __future__ import annotations

from math import prod
from pathlib import Path

from stages.targets.coreml_metal import LINEAR_LAYERS
from stages.targets.coreml_metal.package import PACKAGE, WEIGHTS, Blob, constants, operations, read_program

ONE_BIT = 9
"""Type of a blob of single bits."""


def zero_coreml_layer(path: Path) -> str:
    """Set the largest linear layer's weight to zero in place, at whatever precision it is stored.

    Every blob of the weight but a mask is cleared: values, indices and table, scales. A table of fewer than ten values
    stands in the program itself; the weight then becomes one constant, its first value.

    Args:
        path: a `model.mlpackage`, or the artifact directory that holds it.

    Returns:
        Name of the weight.

    Raises:
        ValueError: the program has no constant linear layer.
    """
    package = path if (path / WEIGHTS).is_file() else path / PACKAGE
    layers = [operation for operation in operations(read_program(package)) if operation.type in LINEAR_LAYERS]
    names = {layer.inputs["weight"].arguments[0].name for layer in layers}
    weights = [constant for constant in constants(package) if constant.name in names]
    if not weights:
        raise ValueError(f"'{package}' has no constant linear layer")
    largest = max(weights, key=lambda constant: prod(constant.shape))
    for blob in largest.blobs:
        if blob.dtype != ONE_BIT:  # a mask says how many values there are
            overwrite(package, blob, bytes(blob.size_bytes))
    return largest.name


def overwrite(package: Path, blob: Blob, data: bytes, skip: int = 0) -> None:
    """Write `data` over a blob, beginning `skip` bytes into it."""
    with (package / WEIGHTS).open("r+b") as stream:
        stream.seek(blob.offset + skip)
        stream.write(data)
