"""What each chosen device can have, by what accelerator, and what the clients of apps there answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.reporting.clients import Asked
from stages.reporting.coverage import Platform
from stages.schema.verdict import Fit

if TYPE_CHECKING:
    from stages.reporting.evidence import Line


@dataclass(frozen=True)
class Row:
    """A variant on a device.

    Attributes:
        line: the variant.
        fit: what the gate says of it there.
        accelerator: title of what runs it, empty where nothing does.
        advice: whether that is told from what is written alone.
        clients: client of the device's apps → verdict on the bundle; `not asked` where it was not.
    """

    line: Line
    fit: Fit
    accelerator: str
    advice: bool
    clients: Mapping[str, str]


@dataclass(frozen=True)
class Shown:
    """A device and all variants that it is judged for."""

    name: str
    title: str
    rows: list[Row]

    @property
    def fitting(self) -> int:
        """Number of variants that pass and fit."""
        return sum(row.line.verdict == "pass" and not row.fit["reasons"] for row in self.rows)

    def has(self, metric: str) -> bool:
        """Whether a metric is known of some of its variants."""
        return any(metric in row.line.values for row in self.rows)


def shown(lines: Sequence[Line], platforms: Sequence[Platform], clients: Sequence[Asked]) -> list[Shown]:
    """Put together what is said of each device, in the order of conf; empty where none was chosen.

    Args:
        lines: the variants.
        platforms: what accelerators take, for their titles.
        clients: what clients answered.
    """
    known = {name: taken for platform in platforms for name, taken in platform.accelerators.items()}
    answered = {client.name: client.answers for client in clients}
    found: dict[str, Shown] = {}
    for line in lines:
        for name, fit in line.devices.items():
            ran = known.get(fit["accelerator"])
            said = {
                client: answered.get(client, {}).get(line.key, {}).get("verdict", "not asked").replace("_", " ")
                for client in fit["clients"]
            }
            row = Row(line, fit, ran["title"] if ran else "", bool(ran and ran["basis"] == "advisory"), said)
            found.setdefault(name, Shown(name, fit["title"], [])).rows.append(row)
    return list(found.values())
