"""Print what was measured as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

KINDS = ("12", "true", "64")
SIDES = ("ours", "peer")
TOP = 8
"""Operators of a profile that are shown; `peers.json` has all."""


def markdown(result: Mapping[str, Any]) -> str:
    """Lay out a whole result: per checkpoint the rows and the comparisons, then the cascade."""
    lines = []
    for name, found in result["checkpoints"].items():
        loads = ", ".join(f"{load:.1f}" for load in found["loads"])
        lines += [f"### {name}", "", f"Load average before each repeat: {loads}.", "", *rows(found["rows"]), ""]
        lines += [*comparisons(found["comparisons"]), "", *goals(found), "", *profiles(found), ""]
    if "plain" in result:
        lines += ["### Scripts written by hand", "", *by_hand(result["plain"]), ""]
    if "cascade" in result:
        lines += ["### Cascade", "", *cascade(result["cascade"])]
    return "\n".join(lines).rstrip() + "\n"


def _table(header: Iterable[str], body: Iterable[Iterable[str]]) -> list[str]:
    header = list(header)
    return [_line(header), _line("---" for _ in header), *(_line(row) for row in body)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def rows(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line per artifact: p50 (min) latency, size, accuracy, cost; or why there is none."""
    latencies = [f"{'true length' if kind == 'true' else f'{kind} tokens'}, ms p50 (min)" for kind in KINDS]
    header = ["artifact", *latencies, "kB", "accuracy %", "top-1 agreement", "build CPU s", "peak MB"]
    return _table(header, (_cells(row) for row in found))


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "failure" in row:
        return [row["name"], f"failed: {row['failure'].replace('|', '/')}", *[""] * 7]
    quality = row["quality"]
    answers = (
        [f"not_measured: {quality['not_measured']}", ""]
        if "not_measured" in quality
        else [f"{quality['accuracy']:.2%}".rstrip("%"), f"{quality['top1_agreement']:.4f}"]
    )
    latency = [f"{row['latency_ms'][kind]['p50']:.3f} ({row['latency_ms'][kind]['min']:.3f})" for kind in KINDS]
    cost = [f"{row['build_cpu_s']:.1f}", f"{row['build_peak_rss_bytes'] / 1e6:.0f}"]
    return [row["name"], *latency, f"{row['size_bytes'] / 1e3:.0f}", *answers, *cost]


def comparisons(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line per class and input: how many times faster ours is than the best peer."""
    body = (
        [
            one["class"],
            "true length" if one["inputs"] == "true" else one["inputs"],
            one["ours"],
            one["peer"],
            f"{one['ratio']:.2f} [{one['interval'][0]:.2f}, {one['interval'][1]:.2f}]",
            " ".join(f"{ratio:.2f}" for ratio in one["repeats"]),
            f"{one['ratio_of_minima']:.2f}",
            f"{one['goal']:.2f}",
            "met" if one["met"] else f"missed: {one['ratio'] / one['goal']:.0%} of it",
        ]
        for one in found
    )
    header = ("class", "tokens", "ours", "best peer", "times faster [95 %]", "repeats", "of minima", "goal", "")
    return _table(header, body)


def goals(found: Mapping[str, Any]) -> list[str]:
    """Size and build cost against the goals, in words."""
    lines, sizes, costs = [], found["sizes"], found["build"]
    if "ratio" in sizes:
        verdict = "met" if sizes["met"] else "missed"
        lines.append(
            f"Smallest within half a point: {sizes['ours']} is {sizes['ratio']:.0%} of {sizes['peer']}"
            f" (goal {sizes['goal']:.0%}): {verdict}."
        )
    each = ", ".join(f"{builder} {cpu_s:.1f}" for builder, cpu_s in costs["cpu_s"].items())
    lines.append(f"CPU seconds for fp32 and int8: {each}; our intake before that {costs['intake_cpu_s']:.1f}.")
    return lines


def profiles(found: Mapping[str, Any]) -> list[str]:
    """Where the time of a missed comparison goes, on both sides; true lengths are nearest to 12 tokens."""
    missed = [one for one in found["comparisons"] if not one["met"]]
    shown = sorted(
        {(one[side], "12" if one["inputs"] == "true" else one["inputs"]) for one in missed for side in SIDES}
    )
    body = ([f"{name}, {kind}", *_operators(found["profiles"][f"{name} {kind}"])] for name, kind in shown)
    header = ("artifact, tokens", "nodes", "µs", f"the {TOP} operators that take most (nodes, share)")
    return _table(header, body) if shown else []


def _operators(profile: Mapping[str, Any]) -> list[str]:
    top = (f"{one['operator']} ({one['count']}, {one['share']:.0%})" for one in profile["operators"][:TOP])
    return [str(profile["nodes"]), f"{profile['total_us']:.0f}", ", ".join(top)]


def by_hand(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line per artifact of the other targets, beside what a short script writes."""
    header = ("target", "precision", "ours, kB", "script, kB", "size", "times faster", "CPU s, ours", "script", "CPU")
    return _table(header, (_artifact(row) for row in found))


def _artifact(row: Mapping[str, Any]) -> list[str]:
    sizes, spent = (f"{size / 1e3:.0f}" for size in row["size_bytes"]), row["cpu_s"]
    faster = f"not_measured: {row['not_measured']}" if "not_measured" in row else f"{row['speed']['ratio']:.2f}"
    costs = f"{spent['tinsmith']:.1f}", f"{spent['plain']:.1f}", f"{row['cpu']:.0%}"
    return [row["target"], row["precision"], *sizes, f"{row['size']:.1%}", faster, *costs]


def cascade(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line per variant beside the teacher."""
    header = (
        "variant",
        "verdict",
        "true length, ms p50 (min)",
        "faster [95 %]",
        "kB",
        "smaller",
        "accuracy %",
        "retained",
    )
    return _table(header, (_variant(row) for row in found))


def _variant(row: Mapping[str, Any]) -> list[str]:
    latency, faster = row.get("not_measured", ""), ""
    if "latency_ms" in row:
        latency = f"{row['latency_ms']['p50']:.3f} ({row['latency_ms']['min']:.3f})"
    if "faster" in row:
        low, high = row["faster"]["interval"]
        faster = f"{row['faster']['ratio']:.1f}× [{low:.1f}, {high:.1f}]"
    else:
        faster = "not_measured" if "not_measured" in row else ""
    smaller = f"{row['smaller']:.1f}×" if "smaller" in row else ""
    retained = f"{row['retained']:.2%}" if "retained" in row else ""
    size, accuracy = f"{row['size_bytes'] / 1e3:.0f}", f"{100 * row['accuracy']:.2f}"
    return [row["name"], row.get("verdict", ""), latency, faster, size, smaller, accuracy, retained]
