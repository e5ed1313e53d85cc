"""Lower the fp32 graph to a precision, in a form that cannot saturate on a CPU without VNNI (`integers`)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import Unsupported
from stages.schema.variant import Mixed, OnnxCpu, Precision, SourceBlocks
from stages.targets.base import SIGNATURE
from stages.targets.onnx_cpu import FUSED, SUPPORTED, graph, lowering, mixed, sourced, supports
from stages.targets.onnx_cpu.graph import Weight


def quantize(
    converted: Path,
    precision: Precision,
    calibration: Mapping[str, NDArray[Any]],
    target: OnnxCpu,  # noqa: ARG001 (every target's signature)
    out: Path,
) -> dict[str, Any]:
    """Write `model.onnx` at a precision, and `signature.json`, into an existing directory.

    Returns:
        What was asked, what `convert` fused, the weights compressed and those left in fp32, each with its bytes,
        scales aside; of a mixture also what was measured to choose it.

    Raises:
        Unsupported: the precision is not one of `SUPPORTED`.
        InputError: static or mixed without a calibration utterance; source, of weights that come from no such file.
        ConversionError: a weight is not finite, or the written graph is not at the precision that was asked for.
    """
    if not supports(precision):
        raise Unsupported(f"onnx-cpu cannot lower to {precision.model_dump()}", expected=SUPPORTED)
    model = graph.load(converted / graph.MODEL)
    lowering.check_finite(model)
    mixture = mixed.find(converted, precision, calibration) if isinstance(precision, Mixed) else {"low": []}
    weights = graph.weights(model)
    if isinstance(precision, SourceBlocks):
        bits = sourced.lower(model, [weight.name for weight in weights if weight.elements >= lowering.SMALLEST])
    else:
        assigned = lowering.shares(weights, precision, mixture["low"])
        lowering.lower(model, assigned, calibration)
        bits = {weight.name: share.bits(weight) for share in assigned for weight in share.weights}
    graph.write(model, out / graph.MODEL)
    shutil.copyfile(converted / SIGNATURE, out / SIGNATURE)
    report = {
        "asked": precision.model_dump(mode="json"),
        "fused": artifact.read_json(converted / FUSED),
        **_tallies(weights, bits),
    }
    return report | ({"mixture": mixture} if isinstance(precision, Mixed) else {})


def _tallies(weights: Sequence[Weight], bits: Mapping[str, int]) -> dict[str, Any]:
    stored = [(weight, bits.get(weight.name, 32)) for weight in weights]
    return {
        "quantized": {kind: _tally([one for one in stored if one[1] < 32], kind) for kind in graph.KINDS},
        "left_float": {kind: _tally([one for one in stored if one[1] == 32], kind) for kind in graph.KINDS},
    }


def _tally(stored: Sequence[tuple[Weight, int]], kind: str) -> dict[str, int]:
    chosen = [(weight, bits) for weight, bits in stored if weight.kind == kind]
    return {
        "bytes": sum(weight.elements * bits // 8 for weight, bits in chosen),
        "operators": sum(weight.uses for weight, _ in chosen),
        "tensors": len(chosen),
    }
