"""`README.md`: the model card, for whoever finds a bundle without the repository it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from stages.core import artifact
from stages.measure import truncation
from stages.releasing.forms import of, of_task
from stages.releasing.source import Source
from stages.schema.verdict import Entry
from stages.targets.facts import NOT_RUN, executor
from stages.tasks.base import Primary
from stages.tasks.facts import facts, shown

CARD = "README.md"
MEASURES = {
    "top1_agreement": ("same answer as the fp32 checkpoint", "%", 100.0),
    "latency_p50_ms": ("latency, median", "ms", 1.0),
    "latency_p99_ms": ("latency, 99th percentile", "ms", 1.0),
    "load_time_ms": ("load time", "ms", 1.0),
    "peak_rss_bytes": ("peak memory", "MB", 1e-6),
    "size_bytes": ("artifact on disk", "MB", 1e-6),
    "parameters": ("parameters", "million", 1e-6),
}
"""Metric → what a reader calls it, unit, factor; behind the task's own."""


def write(source: Source, verdict: Entry, places: Mapping[str, Path], forms: Mapping[str, Any], bundle: Path) -> None:
    """Write the model card.

    Args:
        source: the variant.
        verdict: its entry in `verdicts.json`.
        places: role → stage output of everything behind it.
        forms: form → `path` in the bundle.
        bundle: directory to write into.
    """
    licences = {
        role: artifact.manifest(places[role])["params"].get(role, {}).get("licence", "not stated")
        for role in ("data", "teacher")
    }
    sections = (
        _head(source, verdict),
        ["## Intended use", _said(source, of_task(source.task).WORDS.use)],
        _measured(source, verdict),
        _asked(verdict),
        *([_devices(verdict)] if verdict.get("devices") else []),
        [
            *_limits(source, verdict, places["reference"]),
            *_told(artifact.read_json(places["student"] / "evaluation.json")),
        ],
        _clients(source, forms),
        [
            "## Licences",
            f"- data: {licences['data']}",
            f"- teacher: {licences['teacher']}",
            "- the tools that made it: `bom.cdx.json`",
        ],
    )
    (bundle / CARD).write_text("\n\n".join("\n".join(section) for section in sections) + "\n", encoding="utf-8")


def _head(source: Source, verdict: Entry) -> list[str]:
    made = f"{verdict['compression']} × {verdict['target']} × {verdict['precision']}"
    runtime = verdict["runtime"] or "nothing"
    ran = ", ".join(f"{name} {version}" for name, version in sorted(verdict.get("runtime_versions", {}).items()))
    lines = [
        f"# {source.key}",
        "",
        f"{_said(source, of_task(source.task).WORDS.model)}: {made}. Verdict: **{verdict['verdict']}**, executed by "
        f"{runtime}{f' ({ran})' if ran else ''}.",
    ]
    if absent := executor(verdict["runtime"]).instead_of:
        lines.append(f"**Not run by {absent}**: {NOT_RUN}.")
    if verdict["verdict"] != "pass":
        lines.append("**Nothing proves that this artifact computes anything.**")
    return lines + [f"- {said}" for said in (*verdict["reasons"], verdict["dominated"], *verdict["notes"]) if said]


def _said(source: Source, words: str) -> str:
    return words.format(labels=len(source.labels), max_length=source.max_length)


def measures(primary: Primary) -> dict[str, tuple[str, str, float]]:
    """Return what the card shows of a verdict, the task's metric first: metric → its name, unit, factor."""
    factor, unit = shown(primary.metric)
    lost = "points" if unit == "%" else unit
    return {
        primary.metric: (f"{primary.said} on the test split", unit, factor),
        primary.to_teacher: (f"{primary.said} lost to the teacher", lost, factor),
        primary.to_reference: (f"{primary.said} lost in conversion", lost, factor),
        primary.kept: (f"of the teacher's {primary.said}, kept", unit, factor),
        primary.over_bar: (f"{primary.said} above the honesty bar", lost, factor),
        **MEASURES,
    }


def _devices(verdict: Entry) -> list[str]:
    """Say what it was judged for, none of which ran it."""
    lines = ["## Devices", "Judged from rules and sizes; none of these ran it.", ""]
    for fit in verdict.get("devices", {}).values():
        ran = f"run by {fit['accelerator']}, {100 * fit['macs']:.3g} % of multiply-accumulates"
        lines.append(f"- {fit['title']}: {'no: ' + '; '.join(fit['reasons']) if fit['reasons'] else ran}")
    return lines


def _measured(source: Source, verdict: Entry) -> list[str]:
    values, intervals = verdict["metrics"], verdict["intervals"]
    lines = ["## Measured", "| | value | 95 % interval |", "|---|---:|---:|"]
    for name, (said, unit, factor) in measures(facts(source.task).PRIMARY).items():
        if name in values:
            ends = " to ".join(f"{factor * end:.4g}" for end in intervals.get(name, []))
            lines.append(f"| {said} | {factor * values[name]:.4g} {unit} | {ends or '–'} |")
    lines += ["", f"{values['n']:g} test texts; all metrics are in `verdict.json`."] if "n" in values else []
    if bar := verdict.get("bar"):
        factor, unit = shown(bar["metric"])
        ends = " to ".join(f"{factor * end:.4g}" for end in bar["interval"])
        said = f"{factor * bar['value']:.4g} {unit}".strip()
        lines.append(f"Honesty bar, {bar['method']}: {bar['metric'].replace('_', ' ')} {said} (95 %: {ends}).")
    if "latency_p50_ms" in values:
        lines.append("Times and memory are those of one host, named in `verdict.json`; a phone's are others.")
    elif verdict["timing"]:
        lines.append(f"No latency is known: {verdict['timing']}.")
    return lines


def _asked(verdict: Entry) -> list[str]:
    """List what the gate asked and what it found: whoever reads a `pass` sees what it was worth."""
    values, asked = verdict["metrics"], verdict["thresholds"]
    lines = [
        "## Asked of it",
        "| metric | at least | at most | unit | on at least | found |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for bound in asked["variant"]:
        name, ends = bound["metric"], [bound[end] for end in ("at_least", "at_most")]
        low, high = ("–" if end is None else f"{end:g}" for end in ends)
        found = f"{values[name]:.6g}" if name in values else "–"
        lines.append(f"| {name} | {low} | {high} | {bound['unit']} | {bound['min_n']} items | {found} |")
    below = f"On fewer than {asked['interval_below_n']} items a rate counts with the unfavourable end of its interval."
    return [*lines, "", below]


def _limits(source: Source, verdict: Entry, reference: Path) -> list[str]:
    signature, special = source.signature, source.tokenization.special
    padded = "not padded" if signature.dynamic else f"padded to {' or '.join(map(str, signature.sequence_lengths))}"
    rule, *departures = (_said(source, words) for words in of_task(source.task).WORDS.truncation.values())
    ids = ", ".join(f"{token} = {index}" for token, index in special.values())
    lines = [
        "## Limits",
        f"- At most {source.max_length} tokens, {padded}. {rule}",
        *(f"- {said}" for said in (truncation.sentence(reference), *departures) if said),
        f"- Special tokens: {ids}.",
        "- Quality is that on the test split, and says nothing of other texts or languages.",
        "- Tokenizers that clients bring along differ on accents, control characters and special tokens spelled out: "
        "`probe.json` has such texts with the right ids.",
    ]
    if len(signature.sequence_lengths) > 1 and verdict["precision"].startswith("static"):
        lines.append(
            "- Each signature has activation ranges of its own: a client that pads every text to the longest, as "
            "MediaPipe does, may answer otherwise than one that takes the shortest that fits."
        )
    return lines


def _told(evaluation: Mapping[str, Any]) -> list[str]:
    """Say what the model tells of its training text, where that was measured."""
    if "canary_exposure" not in evaluation:
        return []
    found = evaluation["canary_exposure"]
    said = ", ".join(f"{row['repeats']} times {fmean(row['bits']):.1f}" for row in found["bits"])
    return [
        f"- It tells of its training text: of the {found['most']:g} bits of a made-up secret, by how often it stood "
        f"there and on average, {said} (1.4 is chance)."
    ]


def _clients(source: Source, forms: Mapping[str, Any]) -> list[str]:
    lines = ["## How to load it", "| form | client | oldest seen right | how that is known |", "|---|---|---|---|"]
    lines += list(_rows(source, forms))
    known = of(source).FORMS
    lines += ["", *(f"- `{form['path']}`: {known[name].loading}" for name, form in forms.items())]
    return [*lines, "", "Install what a sample needs beside the bundle, not in it: an audit names what was added."]


def _rows(source: Source, forms: Mapping[str, Any]) -> Iterator[str]:
    for name, form in forms.items():
        for one in of(source).clients(name, source):
            yield f"| `{form['path']}` | {one['client']} | {one['oldest_seen_right']} | {one['established']} |"
