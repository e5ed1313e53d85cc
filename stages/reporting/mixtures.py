"""How sensitive each weight of a mixed precision was found to be, and what was made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.schema.layout import place


@dataclass(frozen=True)
class Mixture:
    """What `quantize` measured of one variant to choose the precision of each weight.

    Attributes:
        key: the variant.
        low: the lower precision, in words.
        high: the higher one.
        facts: `chosen`, `all_high` and `all_low` with `kl_divergence_mean` and `size_bytes`; `kl_budget`,
            `utterances`; `weights`, most sensitive first.
    """

    key: str
    low: str
    high: str
    facts: dict[str, Any]


def read_mixtures(keys: Iterable[str], build: Path) -> list[Mixture]:
    """Read the measurements of the variants that are mixtures; most are none."""
    found = []
    for key in keys:
        path = place(build, "artifact", variant=key) / "quantization.json"
        report = artifact.read_json(path) if path.is_file() else {}
        if "mixture" in report:
            asked = report["asked"]
            found.append(Mixture(key, _phrase(asked["low"]), _phrase(asked["high"]), report["mixture"]))
    return found


def _phrase(asked: dict[str, Any]) -> str:
    bits = asked.get("bits") or asked["weight_bits"]
    return f"{asked['kind'].replace('_', ' ')}, {bits} bits"
