"""Hold what an artifact stores to its checkpoint and to the model it was quantised from; no runtime takes part."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.measure.matching import Expected, Match
from stages.measure.structure import Grids, compare
from stages.schema.measured import Structure, Weights
from stages.targets import registry
from stages.targets.base import QUANTIZATION as QUANTIZATION
from stages.targets.base import SIGNATURE

Arrays = Mapping[str, NDArray[Any]]
WORST = 5
"""Weights and differences listed by name."""


def compare_weights(
    checkpoint: Arrays,
    converted: Callable[[], Arrays],
    stored: Callable[[], Arrays],
    matching: Callable[..., dict[str, Match]],
    expected: Expected | None,
) -> Weights:
    """Compare weights with the checkpoint's; no runtime takes part.

    Args:
        checkpoint: tensors by name.
        converted: gives weights of the converted model, fp32, which must still be the checkpoint's own.
        stored: gives weights of the artifact, fp32, maybe rounded, when the others are gone: one model in memory.
        matching: `measure.matching.match` for the family's position table.
        expected: what rounding may cost; None where the artifact is in floats.

    Returns:
        `values`; `counts`, the matrices that were compared; `worst`: cosine of the worst ones by name; `converted`:
        the matrix that conversion changed most; `rounded`: the one furthest beyond what its own grid explains.
    """
    errors = {name: found.error for name, found in matching(checkpoint, converted()).items()}
    found = matching(checkpoint, stored(), expected=expected)
    cosines = {name: one.cosine for name, one in found.items()}
    worst = sorted(cosines, key=lambda name: (cosines[name], name))[:WORST]
    counts = {"conversion_weight_error_max": len(errors), "weight_cosine_min": len(cosines)}
    values = {"conversion_weight_error_max": max(errors.values()), "weight_cosine_min": cosines[worst[0]]}
    result: Weights = {
        "converted": max(sorted(errors), key=lambda name: errors[name]),
        "counts": counts,
        "values": values,
        "worst": {name: cosines[name] for name in worst},
    }
    if expected is not None:
        result["rounded"] = max(sorted(found), key=lambda name: found[name].excess)
        values["weight_error_ratio_max"] = found[result["rounded"]].excess
        counts["weight_error_ratio_max"] = len(found)
    return result


def compare_structure(target: str, converted: Path, artifact_dir: Path) -> tuple[Structure, Grids]:
    """Hold the artifact to the converted model, operator by operator and weight by weight, and nothing beside them.

    Returns:
        `values` and `counts`, the first `differences`, what nobody reads among them, `beyond`: weights with elements
        that rounding cannot explain; and the grids that activations are rounded to.
    """
    reader, whole = registry.structure(target), registry.whole(target)
    found = compare(reader.read(converted), reader.read(artifact_dir))
    strays = unaccounted(whole, converted, artifact_dir)
    broken = [weight for weight in found.weights if weight.beyond]
    elements = sum(weight.size for weight in found.weights)
    return {
        "counts": {"structure_difference_count": found.operators, "weights_beyond_count": elements},
        "beyond": [
            f"{weight.beyond} of {weight.size} elements of '{weight.name}', worst at [{weight.channel}]"
            for weight in sorted(broken, key=lambda weight: -weight.beyond)[:WORST]
        ],
        "differences": [*found.differences[:WORST], *strays[:WORST]],
        "values": {
            "structure_difference_count": len(found.differences) + len(strays),
            "weights_beyond_count": found.beyond,
        },
    }, found.grids


def unaccounted(whole: registry.Whole, converted: Path, artifact_dir: Path) -> list[str]:
    """Name what lies in the files of two models, or beside them, and no comparison accounts for: a bundle carries it.

    Raises:
        ArtifactError: a file contradicts itself.
    """
    places = (("converted model", converted, whole.CONVERTED), ("artifact", artifact_dir, {QUANTIZATION, *whole.FILES}))
    found = [
        f"'{item.name}' lies beside the {name}"
        for name, directory, own in places
        for item in sorted(directory.iterdir())
        if item.name not in {artifact.MANIFEST, SIGNATURE, *own}
    ]
    try:
        return [*whole.strays(converted, artifact_dir), *found]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ArtifactError(f"'{artifact_dir}' contradicts itself: {error!r}", next_step="run `dvc repro`") from error
