"""Run coremltools' compiler over the fp32 program with the passes that a precision asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import Unsupported
from stages.schema.variant import CoremlMetal, Float, Mixed, Palettized, Precision, Static, WeightOnly
from stages.targets.base import read_signature
from stages.targets.coreml_metal import LINEAR_LAYERS, canonical, channels_first, toolchain
from stages.targets.coreml_metal.package import PACKAGE, WEIGHTS, read_program

Ranges = Mapping[str, tuple[float, float]]
"""Activation → its smallest and largest value."""
Table = NDArray[np.float16] | NDArray[np.float32]

LINEAR = "compression::linear_quantize_weights"
PALETTE = "compression::palettize_weights"
PRUNE = "compression::prune_weights"
AROUND = ("compression::insert_prefix_quantize_dequantize_pair", "compression::insert_suffix_quantize_dequantize_pair")
# The query, key and value of a layer read one tensor, and one layer's output is the next one's input: one pair each.
REPEATED = ("common::dequantize_quantize_pair_elimination", "common::remove_redundant_ops")
NARROWING = (
    "update_output_dtypes",
    "add_fp16_cast",
    "add_int16_cast",
    "update_output_dtypes",
    "guard_negative_gather_indices",
    "const_elimination",
    "cast_optimization",
    "dead_code_elimination",
    "const_deduplication",
    "noop_elimination",
    "canonicalize_inplace_pattern",
    "prefer_state_in_downstream",
    "topological_reorder",
    "dead_code_elimination",
)
"""What `decoder` asks coremltools' compiler for, and what puts number formats in; its other passes find nothing."""
GRANULARITY = {"tensor": "per_tensor", "channel": "per_channel", "block_32": "per_block"}


def check_target(precision: Precision, target: CoremlMetal) -> None:
    """Refuse a deployment target too old for the precision, where coremltools would do nothing and only log it.

    Raises:
        Unsupported: names the oldest target that will do.
    """
    match precision:
        case Mixed():
            check_target(precision.low, target)
            check_target(precision.high, target)
            return
        case WeightOnly(weight_bits=4) | WeightOnly(granularity="block_32") | Palettized(granularity="channels_16"):
            oldest = "iOS18"
        case Palettized() if precision.sparsity:
            oldest = "iOS18"
        case Static():
            oldest = "iOS17"
        case _:
            return
    # "iOS16" to "iOS18" are ordered like their names.
    if target.minimum_deployment_target < oldest:
        raise Unsupported(
            f"coreml-metal cannot lower to {precision.model_dump()} at {target.minimum_deployment_target}",
            expected=f"minimum_deployment_target {oldest} or later",
        )


def lower(
    converted: Path,
    precision: Precision,
    target: CoremlMetal,
    package: Path,
    ranges: Ranges,
    low: Collection[str] = (),
) -> None:
    """Write the program of `converted` at a precision.

    Args:
        converted: output of `convert`.
        precision: see `SUPPORTED`.
        target: the deployment target the program was converted for.
        package: the `.mlpackage` directory to create.
        ranges: of the 16-bit program's activations; read for `static` only.
        low: of a mixture, names of the converted program's weights at its low precision.

    Raises:
        ConversionError: coremltools gave up.
    """
    toolchain.load()
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    spec = read_program(converted / PACKAGE)
    program = load_program(spec, spec.specificationVersion, str((converted / PACKAGE / WEIGHTS).parent))
    signature = read_signature(converted)
    bits = 32 if precision == Float(kind="float", bits=32) else 16
    (call,), lengths = signature.calls, signature.sequence_lengths
    pipeline = _pipeline(precision, ranges, low, states=bool(call.states))
    if target.layout == "channels_first":
        channels_first.keep_weights(pipeline)
    model = toolchain.build(program, call, lengths, target.minimum_deployment_target, f"FLOAT{bits}", pipeline)
    canonical.save(model, package)


def _pipeline(precision: Precision, ranges: Ranges, low: Collection[str], *, states: bool) -> Any:
    from coremltools import PassPipeline
    from coremltools.optimize.coreml import OptimizationConfig

    pipeline = PassPipeline([f"common::{name}" for name in NARROWING], "decoder") if states else PassPipeline()
    # Compression goes last: the passes before it decide in which floats the program computes.
    match precision:
        case Static():
            # Linear layers alone: of a global setting, the integer additions that count positions die.
            config = OptimizationConfig(op_type_configs=dict.fromkeys(LINEAR_LAYERS, _linear(precision)))
            found = {name: {"rmin": low, "rmax": high} for name, (low, high) in ranges.items()}
            for name in AROUND:
                _append(pipeline, name, config=config, activation_stats=found)
            for name in REPEATED:
                _append(pipeline, name)
            _append(pipeline, LINEAR, config=OptimizationConfig(global_config=_linear(precision)))
        case WeightOnly():
            _append(pipeline, LINEAR, config=OptimizationConfig(global_config=_linear(precision)))
        case Palettized():
            if precision.sparsity:
                _append(pipeline, PRUNE, config=OptimizationConfig(global_config=_pruner(precision.sparsity)))
            config = _by_weight(lambda op: _palette(precision, op.outputs[0].shape[0]))
            _append(pipeline, PALETTE, config=config, joint_compression=precision.sparsity > 0)
        case Mixed():

            def share(op: Any) -> Precision:
                return precision.low if source_name(op.name) in low else precision.high

            _append(pipeline, LINEAR, config=_by_weight(lambda op: _linear_or_none(share(op))))
            _append(pipeline, PALETTE, config=_by_weight(lambda op: _palette_or_none(share(op), op)))
    return pipeline


def source_name(name: str) -> str:
    """Return the name that a constant of a lowered program had in the converted one."""
    return name.partition("_to_fp16")[0]


def _linear_or_none(precision: Precision) -> Any:
    return _linear(precision) if isinstance(precision, WeightOnly) else None


def _palette_or_none(precision: Precision, op: Any) -> Any:
    return _palette(precision, op.outputs[0].shape[0]) if isinstance(precision, Palettized) else None


def _append(pipeline: Any, name: str, **options: Any) -> None:
    pipeline.append_pass(name)
    pipeline.set_options(name, options)


def _linear(precision: WeightOnly | Static) -> Any:
    from coremltools.optimize.coreml import OpLinearQuantizerConfig

    return OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=f"int{precision.weight_bits}",
        granularity=GRANULARITY[precision.granularity],
        block_size=32,
        weight_threshold=0,
    )


def _pruner(sparsity: float) -> Any:
    from coremltools.optimize.coreml import OpMagnitudePrunerConfig

    return OpMagnitudePrunerConfig(target_sparsity=sparsity, weight_threshold=0)


def _by_weight(choose: Callable[[Any], Any]) -> Any:
    """Return a configuration that asks a function for the setting of each constant; None leaves it as it is."""
    from coremltools.optimize.coreml import OptimizationConfig

    class ByWeight(OptimizationConfig):  # type: ignore[misc]
        """Looks no further than the constant itself: its readers may be of any type."""

        def _get_const_op_config(self, op: Any) -> Any:
            return choose(op)

    return ByWeight()


def _palette(precision: Palettized, channels: int) -> Any:
    from coremltools.optimize.coreml import OpPalettizerConfig

    grouped = precision.granularity == "channels_16"
    # Never enable_per_channel_scale: where it skips a tensor, coremltools 9 leaves that tensor divided by its scale
    # (classifier and two embedding tables of a BERT; cosine to the source 0.65, and a larger file).
    return OpPalettizerConfig(
        mode="custom",
        lut_function=_clusters(precision.weight_bits, sparse=precision.sparsity > 0),
        granularity="per_grouped_channel" if grouped else "per_tensor",
        # coremltools skips a weight whose channels its groups do not divide, such as a classifier's 150.
        group_size=group_size(channels),
        channel_axis=0,
        weight_threshold=0,
    )


def group_size(channels: int) -> int:
    """Return how many output channels share a table: 16, or the next larger number that divides them."""
    return next((size for size in range(16, channels) if channels % size == 0), channels)


def _clusters(bits: int, *, sparse: bool) -> Callable[[Table], tuple[Table, NDArray[np.uint8]]]:
    """Return the optimal one-dimensional k-means of a weight into 2^bits values.

    coremltools' own mode clusters tensors below 10,000 values with scikit-learn from a random start: other bytes each
    time. The exact algorithm (Grønlund et al. 2017, arXiv:1701.07204; bundled as kmeans1d) has no start. Of a sparse
    weight the zeros, which the mask stands for, get no value.
    """
    from coremltools._deps.kmeans1d import cluster

    def table_and_indices(weight: Table) -> tuple[Table, NDArray[np.uint8]]:
        kept = weight.reshape(-1) != 0 if sparse else np.full(weight.size, True)
        values, inverse, counts = np.unique(weight.reshape(-1)[kept], return_inverse=True, return_counts=True)
        result = cluster(values, min(len(values), 2**bits), weights=counts)
        table, indices = np.zeros(2**bits, weight.dtype), np.zeros(weight.size, np.uint8)
        table[: len(result.centroids)] = result.centroids
        indices[kept] = np.asarray(result.clusters, np.uint8)[inverse]
        return table, indices

    return table_and_indices
