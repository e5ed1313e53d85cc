"""What rounding a weight of the checkpoint to a precision has to cost, whatever a converter made of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from stages.core.errors import ArtifactError, ConfigError
from stages.core.params import Section, parse
from stages.measure.matching import POSITIONS, Expected
from stages.measure.rounding import Matrix, palette_error, uniform_error
from stages.schema.variant import Dynamic, Float, Gptq, Mixed, Palettized, Precision, SourceBlocks, Static, WeightOnly
from stages.targets import registry


class _Asked(Section):
    asked: Precision


def expected(target: str, asked: Any) -> Expected | None:
    """Return what each weight may lose at a precision.

    Args:
        target: whose rule says how long a step has to be.
        asked: as in `quantization.json`.

    Returns:
        None for floats, which are rounded by so little that no shape of a weight matters, and for what is not rounded.

    Raises:
        ArtifactError: `asked` is no precision.
    """
    try:
        precision = parse(_Asked, {"asked": asked}, "quantization.json").asked
    except ConfigError as error:
        raise ArtifactError(f"it does not say what was asked of it: {error}", next_step="run `dvc repro`") from error
    return None if isinstance(precision, Float | SourceBlocks) else partial(_cost, target, precision)


def _cost(target: str, precision: Precision, name: str, value: Matrix, whole: Matrix) -> float:
    match precision:
        case Mixed(low=low, high=high):
            return max(_cost(target, share, name, value, whole) for share in (low, high))
        case Palettized(weight_bits=bits, sparsity=sparsity):
            # Tables per group of channels do no worse than one for all of them, and a part is off by no more than all.
            return palette_error(whole, 2**bits, sparsity)
        case Dynamic() | Gptq() | Static() | WeightOnly():
            # Positions are sliced and turned, with scales along either axis: one for the table does no better.
            granularity = "tensor" if name.endswith(POSITIONS) else precision.granularity
            longest = registry.weights(target).reach(whole, granularity)
            return uniform_error(value, longest[: len(value)], 2 ** (precision.weight_bits - 1) - 1)
        case _:
            return 0.0
