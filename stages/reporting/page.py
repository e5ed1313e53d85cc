"""Put the evidence on one self-contained page: no request leaves it, and no text in it is taken for markup."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stages.core.artifact import write_json
from stages.measure.registry import REGISTRY
from stages.reporting import agreement, devices, graph, strips, templates, wording
from stages.reporting.agreement import Share
from stages.reporting.evidence import Evidence, Line
from stages.reporting.gaps import Gap
from stages.reporting.svg import canvas, mark
from stages.reporting.tradeoff import pareto_rows, tradeoff
from stages.targets.facts import Executor
from stages.tasks.base import Primary

SOURCES = Path(__file__).parent
VERDICTS = ("pass", "fail", "not_measured")
FILTERS = ("bracket", "change", "code", "figure", "magnitude", "measure", "percent", "scaled", "scientific", "unit")
"""Of `wording`, what the page's template uses."""
HEAT = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Shares of different answers at which a cell of the agreement table gets one shade darker."""
COSTS = (("latency_p50_ms", "p50 latency, ms", 1.0), ("size_bytes", "size on disk, MB", 1e-6))


@dataclass(frozen=True)
class Plot:
    """A trade-off plot, and the variants that have no place on it."""

    cost: str
    drawing: Markup
    absent: list[str]


def render(evidence: Evidence) -> str:
    """Return the page as HTML; the same evidence gives the same bytes."""
    environment = templates.environment(SOURCES)
    for name in FILTERS:
        environment.filters[name] = getattr(wording, name)
    environment.filters["heat"] = heat
    environment.filters["glyph"] = graph.GLYPHS.__getitem__
    return environment.get_template("page.html.j2").render(**_context(evidence)) + "\n"


def write_data(evidence: Evidence, out: Path) -> None:
    """Write `pareto.json` and `gaps.json` for DVC plots, and `agreement.json`, into an existing directory."""
    write_json(out / "agreement.json", agreement.rows(evidence.agreement))
    write_json(out / "pareto.json", pareto_rows(evidence.lines, evidence.task.PRIMARY.metric))
    write_json(out / "gaps.json", [_gap_row(gap, evidence.task.PRIMARY.metric) for gap in evidence.gaps])


def best(lines: Sequence[Line], metric: str) -> Line | None:
    """Return the passing variant with the lowest value of a metric, if any passing variant has one."""
    measured = [line for line in lines if line.verdict == "pass" and metric in line.values]
    return min(measured, key=lambda line: (line.values[metric], line.key), default=None)


def heat(found: Share) -> str:
    """Return the class that shades a cell of the agreement table, by the share of different answers."""
    return f"heat{sum(1 - found.value > bound for bound in HEAT)}"


def _context(evidence: Evidence) -> dict[str, Any]:
    lines, primary = evidence.lines, evidence.task.PRIMARY
    legend = _legend(lines)
    style, script = ((SOURCES / name).read_text(encoding="utf-8").strip() for name in ("page.css", "page.js"))
    return {
        "evidence": evidence,
        "lines": lines,
        "by_key": {line.key: line for line in lines},
        "names": _names(evidence),
        "targets": legend,
        "marks": {entry["name"]: entry["mark"] for entry in legend},
        "refused": _refused(lines),
        "counts": {verdict: sum(line.verdict == verdict for line in lines) for verdict in VERDICTS},
        "interpreted": sum(line.verdict == "pass" and line.executor.instead_of != "" for line in lines),
        "fastest": best(lines, "latency_p50_ms"),
        "smallest": best(lines, "size_bytes"),
        "sizes_of_test": sorted({int(line.values["n"]) for line in lines if primary.metric in line.values}),
        "primary": primary,
        "plots": [_plot(lines, *cost, evidence.teacher.score, primary) for cost in COSTS],
        "gaps": _gap_context(evidence),
        "baseline": evidence.data["summary"]["baseline"],
        "unclear": _unclear(evidence),
        "does": evidence.task.DEMO,
        "item": evidence.task.ITEM,
        "spreads": _spread_context(evidence),
        "heat_bounds": HEAT,
        "opinions": [name for name in agreement.KERNELS if any(name in model.opinions for model in evidence.agreement)],
        "graph": graph.graph(evidence.lineage, {line.key: line for line in lines}, _names(evidence)),
        "untimed": _untimed(lines),
        "devices": devices.shown(lines, evidence.coverage, evidence.clients),
        "notes": _notes(lines),
        "runtimes": _runtimes(lines),
        "style": Markup(style),  # noqa: S704 (ours, and the policy's hash covers exactly these bytes)
        "script": Markup(script),  # noqa: S704
        "policy": f"default-src 'none'; style-src {_source_hash(style)}; script-src {_source_hash(script)}",
    }


def _source_hash(text: str) -> str:
    """Name an inline block in a Content-Security-Policy, which then runs and loads nothing else."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _names(evidence: Evidence) -> dict[str, str]:
    names = {"data": str(evidence.data["params"]["kind"])}
    for role, checkpoint in (("teacher", evidence.teacher), ("student", evidence.student)):
        layers = f"{checkpoint.layers}-layer " if checkpoint.layers else ""
        names[role] = f"{layers}{checkpoint.model_type}"
    return names


def _legend(lines: Sequence[Line]) -> list[dict[str, Any]]:
    ranks = {line.target: line.rank for line in lines}
    return [
        {"name": target, "mark": canvas(14, 14, target, mark(rank, 7, 7, f"mark t{rank}", 4.5), class_="inline")}
        for target, rank in sorted(ranks.items(), key=lambda item: (item[1], item[0]))
    ]


def _plot(lines: Sequence[Line], cost: str, unit: str, scale: float, teacher: float, primary: Primary) -> Plot:
    absent = [line.key for line in lines if not {cost, primary.metric} <= set(line.values)]
    return Plot(cost, tradeoff(lines, cost, unit, scale, teacher, primary), absent)


def _unclear(evidence: Evidence) -> bool:
    """Whether the student may be no better than what is no transformer."""
    metric, score = evidence.task.PRIMARY.of_bar, evidence.student.score
    if metric != evidence.task.PRIMARY.metric:
        if evidence.student.bar is None:
            return False
        score, _ = evidence.student.bar
    low, high = evidence.data["summary"]["baseline"][f"{metric}_interval"]
    return bool(score <= high if REGISTRY[metric].better == "higher" else score >= low)


def _gap_context(evidence: Evidence) -> dict[str, Any]:
    failing = {line.key for line in evidence.lines if line.verdict != "pass"}
    axis = strips.gap_axis([gap for gap in evidence.gaps if not (gap.kind == "conversion" and gap.name in failing)])
    ranks = {line.key: line.rank for line in evidence.lines}
    groups: dict[str, list[tuple[Gap, Markup]]] = {"distillation": [], "compression": [], "conversion": []}
    order = {line.key: index for index, line in enumerate(evidence.lines)}
    for gap in sorted(evidence.gaps, key=lambda gap: order.get(gap.name, -1) if gap.kind == "conversion" else -1):
        rank = ranks[gap.name] if gap.kind == "conversion" else None
        groups[gap.kind].append((gap, strips.gap_strip(gap, axis, rank)))
    return {"scale": strips.gap_scale(axis), "groups": groups}


def _spread_context(evidence: Evidence) -> dict[str, Any]:
    spreads = evidence.spreads
    errors = strips.error_axis([spread.max_abs_error for spread in spreads.values()])
    nats = strips.error_axis([spread.kl_divergence for spread in spreads.values()])
    rows = []
    for line in evidence.lines:
        spread = spreads[line.key]
        cells = [
            (sample, strips.histogram(sample, axis, line.rank, f"{name} of {line.key}"))
            for name, sample, axis in (
                ("largest logit error", spread.max_abs_error, errors),
                ("KL divergence", spread.kl_divergence, nats),
            )
        ]
        rows.append({"line": line, "spread": spread, "cells": [_cell(sample, drawing) for sample, drawing in cells]})
    return {
        "rows": rows,
        "scales": [strips.error_scale(errors, "logit error"), strips.error_scale(nats, "KL in nats")],
    }


def _cell(sample: Any, drawing: Markup) -> dict[str, Any]:
    if not sample.size:
        return {"drawing": drawing}
    ordered = sorted(float(value) for value in sample)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"drawing": drawing, "median": median, "worst": ordered[-1], "n": len(ordered)}


def _refused(lines: Sequence[Line]) -> list[list[Line]]:
    """Group the variants without a pass that have the same verdict for the same reasons."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        if line.verdict != "pass":
            groups.setdefault((line.verdict, *line.reasons), []).append(line)
    return list(groups.values())


def _untimed(lines: Sequence[Line]) -> Mapping[str, list[str]]:
    """Reason → variants without a latency."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if "latency_p50_ms" not in line.values:
            reasons.setdefault(line.timing or "no reason was recorded", []).append(line.key)
    return reasons


def _notes(lines: Sequence[Line]) -> Mapping[str, list[str]]:
    """Note → variants that carry it."""
    notes: dict[str, list[str]] = {}
    for line in lines:
        for note in line.notes:
            notes.setdefault(note, []).append(line.key)
    return notes


def _runtimes(lines: Sequence[Line]) -> list[dict[str, Any]]:
    ran: dict[Executor, list[Line]] = {}
    for line in lines:
        if line.runtime:
            ran.setdefault(line.executor, []).append(line)
    return [
        {
            "label": one.label,
            "meaning": one.meaning,
            "variants": [line.key for line in those],
            "versions": sorted({" ".join(pair) for line in those for pair in line.versions.items()}),
        }
        for one, those in ran.items()
    ]


def _gap_row(gap: Gap, metric: str) -> dict[str, Any]:
    value, interval = gap.lost or (None, (None, None))
    return {
        "gap": gap.kind,
        "name": gap.name,
        "n": gap.n,
        "metric": metric,
        "before": gap.before,
        "after": gap.after,
        "drop": value,
        "drop_low": interval[0],
        "drop_high": interval[1],
    }
