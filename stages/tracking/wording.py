"""What an auditor reads in MLflow: names and Markdown, the verdict always first.

MLflow folds a description after about three lines, so what must not be missed stands in those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from stages.targets.facts import NOT_RUN, executor
from stages.tasks.facts import shown
from stages.tracking.record import SHORT, Build, Variant

# MLflow cuts a run's tag at 8,000 characters without a word; PostgreSQL refuses a version's description above 5,000.
ROWS_LIMIT, LINES_LIMIT = 5000, 2000
BEFORE = r"Before this: \[.*?\]\(#/experiments/\w+/runs/\w+\) \(\[compare the two\]\(#/compare-runs\?[^)]*\)\)\."
PLAIN = {"fail": "fail", "not_measured": "not measured", "pass": "pass"}
MEANING = {
    "fail": "it misses a threshold and is not released",
    "not_measured": "nothing proves that it computes anything; it counts as no pass",
    "pass": "it meets every threshold of its precision",
}
ABOUT_EXPERIMENT = (
    "One run per build of Tinsmith, one child run and one logged model per variant (compression × target × "
    "precision), failing variants included. Passing ones have a version in the model registry; the alias `candidate` "
    "is the newest of them, `released` the newest that was bundled. If the sidebar shows no runs, switch from *GenAI* "
    "to *Model training*."
)


def run_name(variant: Variant) -> str:
    """Name a variant's run: charts of latency show nothing but this name, so the verdict is part of it."""
    how = ", interpreted" if executor(variant.verdict["runtime"]).instead_of else ""
    return f"{variant.key} ({PLAIN[variant.verdict['verdict']]}{how})"


def build_name(build: Build) -> str:
    """Name a build's run, verdicts first: the list of runs cuts names at about twenty characters."""
    counts = ", ".join(f"{count} {PLAIN[name]}" for name, count in build.verdicts.items() if count)
    return f"{counts}: build {build.fingerprint[:8]}"


def headline(variant: Variant) -> str:
    """Say the verdict, what executed the artifact, why it is not a pass, and what else to know before choosing it."""
    verdict, runtime = variant.verdict["verdict"], variant.verdict["runtime"]
    said = f"**{PLAIN[verdict].upper()}**: {MEANING[verdict]}."
    if absent := executor(runtime).instead_of:
        said += f" **NOT RUN BY {absent.upper()}** but by `{runtime}`: {NOT_RUN}."
    else:
        said += f" Executed by `{runtime}`." if runtime else " Nothing executed it."
    beside = [f"dominated: {variant.verdict['dominated']}"] if variant.verdict["dominated"] else []
    lines = [*variant.verdict["reasons"], *beside, *variant.verdict["notes"]]
    return said + _fitting([f"\n- {line}" for line in lines], LINES_LIMIT, "\n- … {} more in verdicts.json")


def measured(variant: Variant) -> str:
    """Write quality with its interval and sample size, and latency with its host and the verdict beside it."""
    values, intervals, primary = variant.verdict["metrics"], variant.verdict["intervals"], variant.primary
    lines = []
    if primary.metric in values:
        factor, unit = shown(primary.metric)
        within = " to ".join(f"{factor * end:.2f}" for end in intervals[primary.metric])
        found = f"{primary.said.capitalize()} {factor * values[primary.metric]:.2f} {unit}".strip()
        lines.append(f"{found} (95 %: {within}; n = {values['n']:g}).")
        if bar := variant.verdict.get("bar"):
            factor, unit = shown(bar["metric"])
            beside = f"{bar['metric'].replace('_', ' ')} {factor * bar['value']:.2f} {unit}".strip()
            lines.append(f"Honesty bar ({bar['method']}): {beside}.")
    if "latency_p50_ms" in values:
        within = " to ".join(f"{end:.3g}" for end in intervals["latency_p50_ms"])
        beside = PLAIN[variant.verdict["verdict"]]
        lines.append(f"Latency p50 {values['latency_p50_ms']:.3g} ms (95 %: {within}) on {variant.host}: {beside}.")
    else:
        lines.append(f"No latency: {variant.verdict['timing'] or 'the benchmark gave none'}.")
    return " ".join(lines)


def devices(variant: Variant) -> str:
    """Write a row for each chosen device that its target serves; empty where none was chosen."""
    rows = [
        f"| {name}: {fit['title']} | {'no' if fit['reasons'] else 'yes'} | {fit['accelerator'] or 'nothing'} "
        f"| {'; '.join([*fit['reasons'], *fit['beside']]).replace('|', '/')} |\n"
        for name, fit in variant.verdict.get("devices", {}).items()
    ]
    head = "\n\n| device | fits | run by | why not, or not by another |\n|---|---|---|---|\n"
    return head + _fitting(rows, LINES_LIMIT, "| … | | | {} more in verdicts.json |\n").rstrip() if rows else ""


def run_link(text: str, experiment: str, run: str) -> str:
    """Link to a run's page on the same server."""
    return f"[{text}](#/experiments/{experiment}/runs/{run})"


def before(experiment: str, run: str, earlier_name: str, earlier: str) -> str:
    """Link to the run before this one, and to MLflow's page that compares the two."""
    both = f"runs=%5B%22{earlier}%22,%22{run}%22%5D&experiments=%5B%22{experiment}%22%5D"
    return f"Before this: {run_link(earlier_name, experiment, earlier)} ([compare the two](#/compare-runs?{both}))."


def without_before(text: str) -> str:
    """Remove what `before` wrote: which run came earlier depends on where a record is tracked."""
    return re.sub(BEFORE, "", text)


def describe(variant: Variant, build: Build, source: str, previous: str) -> str:
    """Write a variant's page: verdict, figures, its chain, and the commands that check it.

    Args:
        variant: what is described.
        build: where it was made.
        source: URI of its logged model; the alias would fetch whichever version is the newest.
        previous: what came before it (`before`), empty for the first.
    """
    rows = "\n".join(f"| {role} | `{digest}` |" for role, digest in variant.chain.items())
    return (
        f"{headline(variant)}\n\n{measured(variant)} {previous}{devices(variant)}\n\n"
        f"| stage output | sha256 of its `manifest.json` |\n|---|---|\n{rows}\n\n"
        "Each manifest holds the sha256 of its files and of its parents' manifests, so the digest of `artifact` stands "
        f"for all that is behind it. To check every byte: {_checkout(build)}, then `dvc checkout` (or `dvc repro`), "
        "and, with MLFLOW_TRACKING_URI naming this server:\n\n"
        f"```\npython -m stages.audit {source}\n```\n\n"
        "To check the artifact alone with nothing of Tinsmith's, this must print the digest of `artifact`:\n\n"
        f"```\nmlflow artifacts download -u {source} -d fetched\nsha256sum fetched/manifest.json\n```\n"
    )


def describe_build(build: Build, links: Mapping[str, str], previous: str) -> str:
    """Write a build's page: what passed, what did not and why, and how to have the build again.

    Args:
        build: what is described.
        links: variant → link to its run, in another build where nothing about it changed.
        previous: what came before it (`before`), empty for the first.
    """
    rows = [
        f"| {links[variant.key]} | {PLAIN[variant.verdict['verdict']]} | {variant.verdict['runtime'] or 'nothing'} "
        f"| {'; '.join(variant.verdict['reasons']).replace('|', '/')} |\n"
        for variant in build.variants
    ]
    table = _fitting(rows, ROWS_LIMIT, "| … | | | {} more in verdicts.json |\n")
    counts = ", ".join(f"{count} {PLAIN[name]}" for name, count in build.verdicts.items())
    return (
        f"**{counts}** of {len(build.variants)} variants. To have this build again: {_checkout(build)}, "
        f"then `dvc repro`. {previous}\n\n"
        f"| variant | verdict | executed by | reasons |\n|---|---|---|---|\n{table}\n"
        "A variant that did not change is a child of the build that made it. The parameters beside are params.yaml; "
        "it, the verdicts and the report (`index.html`) are under Artifacts.\n"
    )


def describe_registered(variant: Variant) -> str:
    """Describe a registered model, the same for all its versions."""
    return (
        f"Builds of `{variant.key}` that passed every gate, and no others. The alias `candidate` is the newest, "
        "`released` the newest that was bundled. Each version names its chain of digests and the commands that check "
        "it."
    )


def _fitting(lines: Sequence[str], limit: int, rest: str) -> str:
    """Join lines as far as they fit, and say how many did not."""
    kept, length = 0, 0
    while kept < len(lines) and (length := length + len(lines[kept])) <= limit:
        kept += 1
    return "".join(lines[:kept]) + (rest.format(len(lines) - kept) if kept < len(lines) else "")


def _checkout(build: Build) -> str:
    rev, dirty = build.git["rev"], build.git["dirty"]
    if rev == "unknown":
        return "the revision is unknown (tracked outside a git repository)"
    warning = " (**uncommitted changes were present: this revision alone may not reproduce it**)"
    return f"`git checkout {rev[:SHORT]}`{warning if dirty == 'true' else ''}"
