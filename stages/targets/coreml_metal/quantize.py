"""Lower the fp32 program to a precision, without torch, and count what was compressed."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError, Unsupported
from stages.schema.variant import CoremlMetal, Float, Mixed, Palettized, Precision, Static, WeightOnly
from stages.targets.base import SIGNATURE
from stages.targets.coreml_metal import SUPPORTED, WIDE, activations, mixed, supports
from stages.targets.coreml_metal.lowering import check_target, lower, source_name
from stages.targets.coreml_metal.package import BLOB_FLOATS, FLOATS, PACKAGE, WEIGHTS, Constant, constants


def quantize(
    converted: Path,
    precision: Precision,
    calibration: Mapping[str, NDArray[Any]],
    target: CoremlMetal,
    out: Path,
) -> dict[str, Any]:
    """Write `model.mlpackage` at a precision, and `signature.json`, into an existing directory.

    All but `float 32` compute in 16 bits, and all but `float` keep every matrix and table compressed. `static` also
    rounds what its linear layers read and write to 8 bits.

    Returns:
        What was asked, the tensors compressed and those left in float with the reason, each with its bytes; for
        `static` also the layers that compute with integers, for `mixed` what was measured to choose.

    Raises:
        Unsupported: the precision is not one of `SUPPORTED`, or not at this deployment target.
        ConversionError: the written program is not at the precision that was asked for.
        ArtifactError: an activation overflows 16 bits while ranges are looked for.
    """
    if not supports(precision):
        raise Unsupported(f"coreml-metal cannot lower to {precision.model_dump()}", expected=SUPPORTED)
    check_target(precision, target)
    weights = [constant for constant in constants(converted / PACKAGE) if constant.is_weight]
    static = isinstance(precision, Static)
    ranges = activations.find_ranges(converted, calibration, target) if static else {}
    mixture = mixed.find(converted, precision, calibration, target) if isinstance(precision, Mixed) else {"low": []}
    lower(converted, precision, target, out / PACKAGE, ranges, mixture["low"])
    found = constants(out / PACKAGE)
    check(found, precision, weights, mixture["low"])
    check_finite(found, out / PACKAGE / WEIGHTS)
    report = {"asked": precision.model_dump(mode="json"), **_report(found, _count(weights, precision, mixture["low"]))}
    if isinstance(precision, Mixed):
        report["mixture"] = mixture
    if static:
        used = {"calibration_utterances": len(calibration["input_ids"])}
        report["activations"] = activations.check(converted, out / PACKAGE) | used
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    return report


def check(
    found: Sequence[Constant], precision: Precision, asked: Sequence[Constant], low: Collection[str] = ()
) -> None:
    """Refuse a program in which something that was to be lowered was not.

    coremltools skips a tensor it cannot lower with at most a log line: small ones, those with an infinite value,
    those that blocks do not divide, values beyond 65504 in 16 bits.

    Args:
        found: constants of the written package.
        precision: what was asked for.
        asked: weights of the converted package.
        low: of a mixture, names of the weights at its low precision.

    Raises:
        ConversionError: names a tensor that was passed over, or is stored in another way.
    """
    if not asked:
        raise ConversionError("the program has no weights to lower", next_step="check the converted model")
    if isinstance(precision, Mixed):
        for share, mine in _shares(asked, precision, low):
            others = {constant.name for constant in asked if constant not in mine}
            if mine:
                check([constant for constant in found if source_name(constant.name) not in others], share, mine)
        return
    wide = [one for one in found if one.dtype == "FLOAT32" and one.blobs and not one.name.endswith(WIDE)]
    if wide and precision != Float(kind="float", bits=32):
        raise ConversionError(f"'{wide[0].name}' was left in 32 bits", expected="values below 65504 for 16 bits")
    compressed = [constant for constant in found if constant.op.startswith("constexpr_")]
    left = [constant for constant in found if constant.is_weight and constant not in compressed]
    expected = 0 if isinstance(precision, Float) else len(asked)
    if len(compressed) != expected or (expected and left):
        names = ", ".join(f"'{constant.name}'" for constant in left[:3]) or "none"
        raise ConversionError(
            f"{len(compressed)} weights were compressed; left in float: {names}", expected=f"{expected} compressed"
        )
    if isinstance(precision, WeightOnly | Palettized | Static):
        blocks = isinstance(precision, WeightOnly) and precision.granularity == "block_32"
        sparsity = precision.sparsity if isinstance(precision, Palettized) else 0.0
        for constant in compressed:
            if sparsity:
                _check_sparse(constant, precision.weight_bits, sparsity)
            else:
                _check_storage(constant, precision.weight_bits, blocks=blocks)


def _shares(
    asked: Sequence[Constant], precision: Mixed, low: Collection[str]
) -> tuple[tuple[Precision, list[Constant]], tuple[Precision, list[Constant]]]:
    lowered = [constant for constant in asked if constant.name in low]
    return (precision.low, lowered), (precision.high, [constant for constant in asked if constant.name not in low])


def _count(asked: Sequence[Constant], precision: Precision, low: Collection[str]) -> int:
    """How many weights were to be compressed."""
    shares = _shares(asked, precision, low) if isinstance(precision, Mixed) else [(precision, list(asked))]
    return sum(len(mine) for share, mine in shares if not isinstance(share, Float))


def _check_storage(constant: Constant, bits: int, *, blocks: bool) -> None:
    integers = [blob.size_bytes for blob in constant.blobs if blob.dtype not in BLOB_FLOATS]
    levels = -(-prod(constant.shape) * bits // 8)
    if levels not in integers:
        size = f"{sum(integers)} bytes"
        raise ConversionError(f"'{constant.name}' is stored in {size}", expected=f"{levels}: {bits} bits")
    scales, stored = constant.float_bytes // 32, constant.stored_bytes - sum(integers)
    # Fewer than ten scales, of two bytes each, stand in the program itself.
    if blocks and scales >= 20 and stored != scales:
        raise ConversionError(
            f"'{constant.name}' has {stored // 2} scales", expected=f"{scales // 2}: one per 32 values"
        )


def _check_sparse(constant: Constant, bits: int, sparsity: float) -> None:
    elements = prod(constant.shape)
    kept, mask = elements * (1 - sparsity) * bits / 8, -(-elements // 8)
    integers = sorted(blob.size_bytes for blob in constant.blobs if blob.dtype not in BLOB_FLOATS)
    # Magnitudes that are equal fall together, and zeros that were there before need no place among the dropped.
    if sum(integers) - mask > kept + 1 or mask not in integers:
        raise ConversionError(
            f"'{constant.name}' is stored in {sum(integers)} bytes",
            expected=f"{int(kept) + mask} at {sparsity:g} sparse",
        )


def check_finite(found: Sequence[Constant], weights: Path) -> None:
    """Refuse NaN and infinity in any stored float, scales and tables included.

    Args:
        found: constants of the package.
        weights: its `weight.bin`.

    Raises:
        ConversionError: names the tensor.
    """
    data = np.memmap(weights, np.uint8, "r")
    for constant in found:
        for blob in (blob for blob in constant.blobs if blob.dtype in BLOB_FLOATS):
            values = data[blob.offset : blob.offset + blob.size_bytes].view(BLOB_FLOATS[blob.dtype])
            if not np.isfinite(values).all():
                raise ConversionError(f"'{constant.name}' has NaN or infinite values", next_step="check the checkpoint")


def _report(found: Sequence[Constant], asked: int) -> dict[str, Any]:
    floats = [constant for constant in found if constant.dtype in FLOATS]
    compressed = [constant for constant in floats if constant.op != "const"]
    left: dict[str, dict[str, int]] = {}
    for constant in (constant for constant in floats if constant.op == "const"):
        tally = left.setdefault(_reason(constant), {"bytes": 0, "tensors": 0})
        tally["bytes"] += constant.float_bytes
        tally["tensors"] += 1
    return {
        "quantized": {
            "bytes": sum(constant.stored_bytes for constant in compressed),
            "bytes_as_float": sum(constant.float_bytes for constant in compressed),
            "tensors": len(compressed),
            "tensors_asked": asked,
        },
        "left_float": left,
    }


def _reason(constant: Constant) -> str:
    if not constant.blobs:
        return "fewer than ten values, kept in the program itself"
    return "float was asked for" if constant.is_weight else "one axis: a bias or a norm"
