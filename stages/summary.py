"""Print the variant table, what was cut of the texts, and where the report and the MLflow UI are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.core import cli
from stages.gating import explained
from stages.gating.beside import beaten
from stages.measure import truncation
from stages.schema.layout import REPORT, VERDICTS, place
from stages.schema.verdict import Entry
from stages.tasks.facts import facts, of_data, shown

COLOURS = {"pass": "green", "fail": "red", "not_measured": "yellow"}


def row(key: str, entry: Entry, primary: str) -> list[str]:
    """One variant as cells, `primary` being the metric of how good it is.

    A latency appears only beside its verdict, a rate only with its interval.
    """
    values, intervals = entry["metrics"], entry["intervals"]

    def number(name: str, scale: float, pattern: str) -> str:
        return format(values[name] * scale, pattern) if name in values else "–"

    def rate(name: str) -> str:
        if name not in values:
            return "–"
        low, high = intervals[name]
        factor, _ = shown(name)
        return f"{factor * values[name]:.2f} ±{factor / 2 * (high - low):.1f}"

    verdict = entry["verdict"]
    return [
        key,
        number("size_bytes", 1e-6, ".2f"),
        number("latency_p50_ms", 1, ".3f"),
        rate(primary),
        rate("top1_agreement"),
        f"[{COLOURS[verdict]}]{verdict}[/]",
    ]


def _bar(entry: Entry) -> str:
    """Say what no transformer should be chosen below, empty where a verdict does not."""
    if not (bar := entry.get("bar")):
        return ""
    (low, high), (factor, unit) = bar["interval"], shown(bar["metric"])
    value = f"{factor * bar['value']:.2f} {unit} ±{factor / 2 * (high - low):.1f}"
    return f"honesty bar: {bar['metric'].replace('_', ' ')} {value}, {bar['method']}"


def _devices(entries: Mapping[str, Entry]) -> list[str]:
    """Say what every chosen device can have, and why not the rest."""
    found: dict[str, list[str]] = {}
    for key, entry in sorted(entries.items()):
        for name, fit in entry.get("devices", {}).items():
            said = f"not {key} ({'; '.join(fit['reasons'])})" if fit["reasons"] else f"{key} by {fit['accelerator']}"
            found.setdefault(name, []).append(said)
    return [f"{name}: {', '.join(said)}" for name, said in sorted(found.items())]


def run(build: Path, code: int) -> None:
    """Print the table; a build that stopped says that it may be an older one's."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    verdicts, report = build / VERDICTS, build / REPORT / "index.html"
    if not verdicts.is_file():
        console.print("no verdicts yet: the build stopped before its gate")
        return
    if code:
        console.print("[red]the build stopped[/]: what stands here was judged last, perhaps by an earlier build")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    primary = facts(of_data(place(build, "data"))).PRIMARY
    quality = f"{primary.said} {shown(primary.metric)[1]}".strip()
    for name in ("variant", "size MB", "p50 ms", quality, "top-1\nagreement %", "verdict"):
        table.add_column(name, justify="left" if name in ("variant", "verdict") else "right", overflow="fold")
    entries = explained.read_verdicts(verdicts)
    for key in sorted(entries):
        table.add_row(*row(key, entries[key], primary.metric))
    console.print(table)
    for said in sorted({_bar(entry) for entry in entries.values()} - {""}):
        console.print(said, highlight=False, soft_wrap=True, markup=False)
    for key in sorted(entries):
        dominated = entries[key]["dominated"]
        beside = beaten(entries[key], primary)
        for said in [*entries[key]["reasons"], *beside, *([f"dominated, {dominated}"] if dominated else [])]:
            console.print(f"{key}: {said}", highlight=False, soft_wrap=True, markup=False)
    for said in _devices(entries):
        console.print(said, highlight=False, soft_wrap=True, markup=False)
    references = (place(build, "reference", compression=entry["compression"]) for entry in entries.values())
    cut = {truncation.sentence(reference) for reference in references}
    for said in sorted(cut - {""}):
        console.print(said, highlight=False, soft_wrap=True)
    if report.is_file():
        console.print(f"report  {report}\nMLflow  run `make ui`", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "build")
    parser.add_argument("--code", type=int, default=0, help="exit code of the build")
    return cli.execute(parser, argv, lambda arguments: run(arguments.build, arguments.code))


if __name__ == "__main__":
    sys.exit(main())
