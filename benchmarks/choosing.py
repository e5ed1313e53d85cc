"""Print every variant of a build by platform and size, with its Pareto front: the tables of docs/choosing.md.

    python -m benchmarks.choosing --build build --cascade .bench/peers/peers.json

The build is of `experiment=clinc150-choosing`; `--cascade` is what `benchmarks.peers` wrote beside that build, for how
many times faster than the teacher a variant is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact

AXES = {"size_bytes": 1, "accuracy": -1, "latency_p50_ms": 1}
"""Metric → 1 where less is better, -1 where more is; those that nothing measured are left out of a comparison."""
HEADER = ("kB", "smaller", "accuracy %", "agreement %", "p50 ms", "at full length", "faster", "verdict")

Row = Mapping[str, Any]


def front(rows: Sequence[Row]) -> list[Row]:
    """Select the passing rows that no other passing one equals or beats on every axis, and beats on one."""
    passing = [row for row in rows if row["verdict"] == "pass"]
    return [row for row in passing if not any(_beats(other, row) for other in passing)]


def _beats(one: Row, other: Row) -> bool:
    axes = [axis for axis in AXES if axis in one["metrics"] and axis in other["metrics"]]
    pairs = [(AXES[axis] * one["metrics"][axis], AXES[axis] * other["metrics"][axis]) for axis in axes]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def tables(build: Path, faster: Mapping[str, float]) -> Iterator[str]:
    """Yield lines of Markdown, a table per platform.

    Args:
        build: output of `dvc repro`.
        faster: variant → how many times faster than the teacher.
    """
    entries = artifact.read_json(build / "verdicts.json")["variants"]
    teacher = (build / "teacher/model.safetensors").stat().st_size
    for target in sorted({entry["target"] for entry in entries.values()}, reverse=True):
        rows = [entry | {"key": key} for key, entry in entries.items() if entry["target"] == target]
        best = [row["key"] for row in front(rows)]
        yield f"| `{target}` | {' | '.join(HEADER)} |"
        yield f"|---|{'--:|' * (len(HEADER) - 1)}---|"
        for row in sorted(rows, key=lambda row: row["metrics"]["size_bytes"]):
            star = " ★" if row["key"] in best else ""
            cells = _cells(row, teacher, faster.get(row["key"]))
            yield f"| `{row['compression']}` {row['precision']}{star} | {' | '.join(cells)} | {row['verdict']} |"
        yield ""


def _cells(row: Row, teacher: int, faster: float | None) -> list[str]:
    found = row["metrics"]
    return [
        f"{found['size_bytes'] / 1e3:.0f}",
        f"{teacher / found['size_bytes']:.1f}×",
        f"{found['accuracy']:.2%}".rstrip("%"),
        f"{found['top1_agreement']:.2%}".rstrip("%"),
        *(f"{found[name]:.3f}" if name in found else "–" for name in ("latency_p50_ms", "latency_full_p50_ms")),
        "–" if faster is None else f"{faster:.1f}×",
    ]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--cascade", type=Path, help="peers.json; without it nothing is said to be faster")
    arguments = parser.parse_args()
    rows = artifact.read_json(arguments.cascade)["cascade"] if arguments.cascade else []
    faster = {row["name"]: row["faster"]["ratio"] for row in rows if "faster" in row}
    print("\n".join(tables(arguments.build, faster)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
