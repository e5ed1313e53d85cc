"""Turn the records of jobs into points to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.schema.verdict import Entry
from stages.sweeping.pareto import Point

# About the sweep and not the build; and what a variant's own name says already.
OTHER = ("hydra", "sweep")
NAMED = ("compression", "precision", "target")


def points_of(records: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the variants of all jobs, in the order the jobs ended.

    Two jobs may build a variant of the same name: what tells the jobs apart is put into the label.
    """
    telling = _telling(records)
    return [
        _point(record, key, entry, {name: value for name, value in asked(record).items() if name in telling})
        for record in sorted(records, key=lambda record: (record["started"] + record["wall_s"], record["id"]))
        for key, entry in record["variants"].items()
    ]


def asked(record: Mapping[str, Any], *, all_of_it: bool = False) -> dict[str, str]:
    """Return what a job was asked to build; without `all_of_it`, only what its variants' names do not say."""
    pairs = (item.lstrip("+").partition("=") for item in record["overrides"])
    silent = OTHER if all_of_it else (*OTHER, *NAMED)
    return {name: value for name, _, value in pairs if not name.lstrip("~").startswith(silent)}


def _telling(records: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [asked(record) for record in records]
    names = sorted({name for one in found for name in one})
    return [name for name in names if len({one.get(name) for one in found}) > 1]


def _point(record: Mapping[str, Any], key: str, entry: Entry, overrides: dict[str, str]) -> Point:
    apart = " ".join(f"{name}={value}" for name, value in overrides.items())
    return Point(
        job=record["id"],
        variant=key,
        label=f"{key} · {apart}" if apart else key,
        apart=apart,
        target=entry["target"],
        compression=entry["compression"],
        precision=entry["precision"],
        verdict=entry["verdict"],
        reasons=list(entry["reasons"]),
        values=dict(entry["metrics"]),
        intervals=dict(entry.get("intervals", {})),
        foreign_cores=entry.get("foreign_cores"),
        devices={name: fit["reasons"] for name, fit in entry.get("devices", {}).items()},
    )
