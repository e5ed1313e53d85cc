"""Write what a sweep found, as JSON, CSV and a page, and print it."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.core.artifact import write_json
from stages.sweeping import page
from stages.sweeping.findings import find
from stages.sweeping.ledger import STATES
from stages.sweeping.pareto import Point
from stages.sweeping.settings import Sweep
from stages.tasks.base import Primary


def write(directory: Path, settings: Sweep, records: Sequence[Mapping[str, Any]], primary: Primary) -> None:
    """Write points.csv, pareto.json and index.html into the sweep's directory."""
    found = find(settings, records, primary)
    _write_csv(directory / "points.csv", [point for platform in found.platforms for point in platform.points])
    write_json(
        directory / "pareto.json",
        {
            "platforms": {
                platform.target: {
                    "goals": platform.goals,
                    "front": [asdict(point) for point in platform.front],
                    "hypervolume": platform.volumes,
                    "variants": len(platform.points),
                }
                for platform in found.platforms
            },
            "recommendations": {entry.profile: asdict(entry) for entry in found.recommendations},
            "sharing": found.sharing,
        },
    )
    text = page.render(settings, found)
    temporary = directory / f".index.{os.getpid()}.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(directory / "index.html")


def _write_csv(path: Path, points: Sequence[Point]) -> None:
    names = sorted({name for point in points for name in point.values})
    columns = ["job", "variant", "label", "target", "compression", "precision", "verdict", "reasons", "foreign_cores"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*columns, *names])
        for point in points:
            own = [getattr(point, column) for column in columns]
            own[columns.index("reasons")] = "; ".join(point.reasons)
            writer.writerow([*own, *(point.values.get(name, "") for name in names)])


def show(directory: Path, records: Sequence[Mapping[str, Any]], varied: Sequence[str], seconds: float) -> None:
    """Print the front of every platform, the recommendations, and what did not end well."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from stages.core.artifact import read_json
    from stages.reporting.wording import magnitude
    from stages.sweeping.progress import varying

    console = Console(soft_wrap=True, highlight=False)
    found = read_json(directory / "pareto.json")
    for target, platform in found["platforms"].items():
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"Pareto front of {target}", title_justify="left")
        table.add_column("variant", overflow="fold")
        for goal in platform["goals"]:
            table.add_column(goal, justify="right")
        for point in platform["front"]:
            table.add_row(point["label"], *(magnitude(point["values"][goal]) for goal in platform["goals"]))
        console.print(table)
    for name, entry in found["recommendations"].items():
        chosen = entry["point"]["label"] if entry["point"] else "nothing"
        console.print(f"{name}: {chosen}\n  {entry['reason']}", markup=False)
    counts = Counter(record["state"] for record in records)
    tally = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    ran = sum(step["how"] == "ran" for record in records for step in record["steps"])
    console.print(f"{len(records)} jobs in {seconds:.0f} s: {tally or 'none'}; {ran} stages in their records ran")
    for record in records:
        if record["state"] in ("failed", "stopped"):
            console.print(f"{record['state']}: {varying(record, varied)}: {record['reason']}", markup=False)
    if counts["failed"]:
        console.print("try the failed ones again with the same command and sweep.retry_failed=true", markup=False)
    console.print(f"page  {directory / 'index.html'}", markup=False)
