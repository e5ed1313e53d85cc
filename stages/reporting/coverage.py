"""What accelerators take of each variant, by platform, and what they refuse, told once for all that refuse it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.measure.registry import ACCELERATORS
from stages.schema.covered import Coverage, Refused, Taken, read_coverage
from stages.schema.layout import place


@dataclass
class Refusal:
    """Operators of one type that are refused for one reason.

    Attributes:
        operator: their type.
        reason: why.
        cure: the rewrite after which they are taken, or empty.
        doubt: whether they are handed out all the same.
        macs: largest share of a call's multiply-accumulates.
        accelerators: titles of those that refuse them.
        variants: in which artifacts.
        modules: of the checkpoint that they come from.
    """

    operator: str
    reason: str
    cure: str
    doubt: bool
    macs: float = 0.0
    accelerators: list[str] = field(default_factory=list)
    variants: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)

    def add(self, variant: str, title: str, found: Refused) -> None:
        """Take note of another artifact or accelerator that has it."""
        self.macs = max(self.macs, found["macs"])
        for known, more in (
            (self.accelerators, [title]),
            (self.variants, [variant]),
            (self.modules, found["modules"]),
        ):
            known += [one for one in more if one not in known]


@dataclass(frozen=True)
class Platform:
    """What is told of all variants of one platform.

    Attributes:
        name: of the target.
        accelerators: name → what is the same of it for all of them: `title`, `basis`, `source`.
        rows: variant → accelerator → what it takes.
        failed: variant → why nothing is known of it.
        refusals: those that cost most first.
    """

    name: str
    accelerators: dict[str, Taken]
    rows: dict[str, Mapping[str, Taken]]
    failed: dict[str, str]
    refusals: list[Refusal]


def read_platforms(variants: Mapping[str, str], build: Path) -> list[Platform]:
    """Read what is told of variants.

    Args:
        variants: variant → target, in the order of the page.
        build: directory of all stage outputs.
    """
    found = {key: read_coverage(place(build, "coverage", variant=key)) for key in variants}
    return [
        _platform(target, {key: found[key] for key in variants if variants[key] == target})
        for target in dict.fromkeys(variants.values())
    ]


def _platform(target: str, found: Mapping[str, Coverage]) -> Platform:
    told = {key: one for key, one in found.items() if one["status"] == "measured"}
    said = {name: taken for one in told.values() for name, taken in one["accelerators"].items()}
    accelerators = {name: said[name] for name in sorted(said, key=_order)}
    return Platform(
        name=target,
        accelerators=accelerators,
        rows={key: one["accelerators"] for key, one in told.items()},
        failed={key: one["reason"] for key, one in found.items() if one["status"] == "failed"},
        refusals=_refusals(told),
    )


def _order(name: str) -> tuple[int, str]:
    """Return the place of an accelerator; those that the registry does not know come last."""
    return ACCELERATORS.index(name) if name in ACCELERATORS else len(ACCELERATORS), name


def _refusals(told: Mapping[str, Coverage]) -> list[Refusal]:
    groups: dict[Sequence[str | bool], Refusal] = {}
    for key, one in told.items():
        for taken in one["accelerators"].values():
            for refused in taken["refused"]:
                same = (refused["operator"], refused["reason"], refused["cure"], refused["doubt"])
                groups.setdefault(same, Refusal(*same)).add(key, taken["title"], refused)
    return sorted(groups.values(), key=lambda one: (-one.macs, one.operator, one.reason))
