"""Lower the fp32 program to a precision, without torch, and count what was compressed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import ConversionError, Unsupported
from stages.schema.variant import CoremlMetal, Float, Palettized, Precision, WeightOnly
from stages.targets.base import SIGNATURE, read_signature
from stages.targets.coreml_metal import SUPPORTED, canonical, supports, toolchain
from stages.targets.coreml_metal.package import BLOB_FLOATS, FLOATS, PACKAGE, WEIGHTS, Constant, constants, read_program

LINEAR = "compression::linear_quantize_weights"
PALETTE = "compression::palettize_weights"
Table = NDArray[np.float16] | NDArray[np.float32]


def quantize(
    converted: Path,
    precision: Precision,
    calibration: Mapping[str, NDArray[Any]],  # noqa: ARG001 (nothing here depends on activations)
    target: CoremlMetal,
    out: Path,
) -> dict[str, Any]:
    """Write `model.mlpackage` at a precision, and `signature.json`, into an existing directory.

    All but `float 32` compute in 16 bits; `weight_only` and `palettized` also keep every matrix and table compressed.

    Args:
        converted: output of `convert`.
        precision: see `SUPPORTED`.
        calibration: unused.
        target: the deployment target the program was converted for.
        out: directory to write into.

    Returns:
        What was asked, the tensors compressed and those left in float with the reason, each with its bytes.

    Raises:
        Unsupported: the precision is not one of `SUPPORTED`, or not at this deployment target.
        ConversionError: the written program is not at the precision that was asked for.
    """
    if not supports(precision):
        raise Unsupported(f"coreml-metal cannot lower to {precision.model_dump()}", expected=SUPPORTED)
    asked = [constant for constant in constants(converted / PACKAGE) if constant.is_weight]
    _lower(converted, precision, target, out / PACKAGE)
    found = constants(out / PACKAGE)
    check(found, precision, asked)
    check_finite(found, out / PACKAGE / WEIGHTS)
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    return {"asked": precision.model_dump(mode="json"), **_report(found)}


def check(found: Sequence[Constant], precision: Precision, asked: Sequence[Constant]) -> None:
    """Refuse a program in which something that was to be lowered was not.

    coremltools skips a tensor it cannot lower with at most a log line: small ones, those with an infinite value,
    blocks that do not divide, values beyond 65504 in 16 bits.

    Args:
        found: constants of the written package.
        precision: what was asked for.
        asked: weights of the converted package.

    Raises:
        ConversionError: names a tensor that was passed over.
    """
    if not asked:
        raise ConversionError("the program has no weights to lower", next_step="check the converted model")
    wide = [constant for constant in found if constant.dtype == "FLOAT32" and constant.blobs]
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


def _lower(converted: Path, precision: Precision, target: CoremlMetal, package: Path) -> None:
    ct = toolchain.load()
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    spec = read_program(converted / PACKAGE)
    program = load_program(spec, spec.specificationVersion, str((converted / PACKAGE / WEIGHTS).parent))
    pipeline = ct.PassPipeline()
    # Compression goes last: the passes before it decide in which floats the program computes.
    if isinstance(precision, WeightOnly):
        _append(pipeline, LINEAR, _linear(precision, target))
    elif isinstance(precision, Palettized):
        _append(pipeline, PALETTE, _palette(precision))
    lengths = read_signature(converted).sequence_lengths
    bits = 32 if precision == Float(kind="float", bits=32) else 16
    model = toolchain.build(program, lengths, target.minimum_deployment_target, f"FLOAT{bits}", pipeline)
    canonical.save(model, package)


def _append(pipeline: Any, name: str, config: Any) -> None:
    from coremltools.optimize.coreml import OptimizationConfig

    pipeline.append_pass(name)
    pipeline.set_options(name, {"config": OptimizationConfig(global_config=config)})


def _linear(precision: WeightOnly, target: CoremlMetal) -> Any:
    from coremltools.optimize.coreml import OpLinearQuantizerConfig

    if precision.weight_bits == 4 and target.minimum_deployment_target != "iOS18":
        raise Unsupported(
            f"coreml-metal has no 4-bit integers at {target.minimum_deployment_target}",
            expected="minimum_deployment_target iOS18, or weight_bits 8",
        )
    return OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=f"int{precision.weight_bits}",
        granularity=f"per_{precision.granularity}",
        weight_threshold=0,
    )


def _palette(precision: Palettized) -> Any:
    from coremltools.optimize.coreml import OpPalettizerConfig

    # Never enable_per_channel_scale: where it skips a tensor, coremltools 9 leaves that tensor divided by its scale
    # (classifier and two embedding tables of a BERT; cosine to the source 0.65, and a larger file).
    return OpPalettizerConfig(
        mode="custom",
        lut_function=_clusters(precision.weight_bits),
        granularity="per_tensor",
        weight_threshold=0,
    )


def _clusters(bits: int) -> Callable[[Table], tuple[Table, NDArray[np.uint8]]]:
    """Return the optimal one-dimensional k-means of a weight into 2^bits values.

    coremltools' own mode clusters tensors below 10,000 values with scikit-learn from a random start: other bytes each
    time. The exact algorithm (Grønlund et al. 2017, arXiv:1701.07204; bundled as kmeans1d) has no start.
    """
    from coremltools._deps.kmeans1d import cluster

    def table_and_indices(weight: Table) -> tuple[Table, NDArray[np.uint8]]:
        values, inverse, counts = np.unique(weight, return_inverse=True, return_counts=True)
        result = cluster(values, min(len(values), 2**bits), weights=counts)
        table = np.zeros(2**bits, weight.dtype)
        table[: len(result.centroids)] = result.centroids
        return table, np.asarray(result.clusters, np.uint8)[inverse.reshape(-1)]

    return table_and_indices


def _report(found: Sequence[Constant]) -> dict[str, Any]:
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
        },
        "left_float": left,
    }


def _reason(constant: Constant) -> str:
    if not constant.blobs:
        return "fewer than ten values, kept in the program itself"
    return "float was asked for" if constant.is_weight else "one axis: a bias or a norm"
