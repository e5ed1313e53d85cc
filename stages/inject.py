"""Put faults into the artifacts of a build, one at a time, and show which of them the gate lets through.

Reads: a finished build and params.yaml; changes neither.
Writes: a table to the terminal, and with `--json` the same as JSON.
Why: thresholds are worth what they catch; whoever loosens one sees here what it costs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, params
from stages.core.errors import ConfigError, ReleaseRefused
from stages.core.params import Section
from stages.injecting.forgery import FORGERIES, at_release
from stages.injecting.inject import CLEAN, Case, Outcome, after_quantization, before_quantization, names, stored
from stages.running import local
from stages.schema.gate import Gate
from stages.schema.task import Task
from stages.schema.variant import Precision, Target, Variant

STAGES = {"quantize": after_quantization, "convert": before_quantization, "release": at_release}
"""Where a fault happens → how it is put there."""
FAULTS_OF = {"quantize": names, "convert": lambda task: tuple(stored(task)), "release": lambda _: FORGERIES}
"""Where a fault happens → those that can, by the task."""
MARKS = {"fail": "killed", "refused": "killed", "not_applicable": "–", "pass": "SHIPPED"}


class Params(Section):
    """The thresholds, the chosen variants, what they are made of and what for."""

    gate: Gate
    precisions: dict[str, Precision]
    targets: dict[str, Target]
    task: Task
    variants: dict[str, Variant]


def cases(settings: Params, build: Path, chosen: Sequence[str]) -> list[Case]:
    """List the variants to damage, all by default.

    Raises:
        ConfigError: a name that params.yaml does not have.
    """
    unknown = sorted(set(chosen) - set(settings.variants))
    if unknown:
        raise ConfigError(f"no variant '{unknown[0]}'", expected=f"one of: {', '.join(settings.variants)}")
    return [
        Case(
            build=build,
            key=key,
            variant=variant,
            gate=settings.gate,
            precision=settings.precisions[variant.precision],
            target=settings.targets[variant.target],
            runner=local,
        )
        for key, variant in settings.variants.items()
        if not chosen or key in chosen
    ]


def outcomes(found: Sequence[Case], faults: Sequence[str], stage: str, seed: int) -> Iterator[tuple[str, str, Outcome]]:
    """Yield (fault, variant, outcome), the clean artifact first.

    Args:
        found: the variants.
        faults: names of faults.
        stage: a key of `STAGES`.
        seed: of what a fault chooses at random.
    """
    for fault in (CLEAN, *faults):
        for case in found:
            with tempfile.TemporaryDirectory(prefix="tinsmith-") as scratch:
                yield fault, case.key, STAGES[stage](case, fault, Path(scratch), seed=seed)


def summarise(table: Mapping[str, Mapping[str, Outcome]]) -> dict[str, int]:
    """Count faults put in, faults killed, and false alarms on clean artifacts."""
    put_in = [one for fault, row in table.items() if fault != CLEAN for one in row.values()]
    applied = [one for one in put_in if one.verdict != "not_applicable"]
    return {
        "false_alarms": sum(one.verdict != "pass" for one in table[CLEAN].values()),
        "faults": len(applied),
        "killed": sum(one.killed for one in applied),
    }


def run(
    settings: Params, build: Path, chosen: Sequence[str], faults: Sequence[str], stage: str, seed: int
) -> dict[str, Any]:
    """Print the table as it grows.

    Returns:
        The table and its summary.
    """
    found = cases(settings, build, chosen)
    table: dict[str, dict[str, Outcome]] = {}
    for fault, key, outcome in outcomes(found, faults, stage, seed):
        table.setdefault(fault, {})[key] = outcome
        mark = outcome.verdict if fault == CLEAN else MARKS.get(outcome.verdict, outcome.verdict)
        print(f"{fault:<24} {key:<34} {mark:<8} {outcome.reason[:110]}", flush=True)
    counts = summarise(table)
    print(f"{counts['killed']} of {counts['faults']} faults killed, {counts['false_alarms']} false alarms")
    return {"stage": stage, "seed": seed, "summary": counts, "table": table}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "build")
    parser.add_argument("--variant", action="append", default=[], help="damage this one only; may be repeated")
    parser.add_argument("--fault", action="append", help="this fault only; may be repeated")
    parser.add_argument("--stage", choices=STAGES, default="quantize", help="where the fault happens")
    parser.add_argument("--seed", type=int, default=0, help="of what a fault chooses at random")
    parser.add_argument("--json", type=Path, help="write the table here too")

    def body(arguments: Any) -> None:
        settings = params.load(Params, {name: name for name in Params.model_fields}, arguments.params)
        possible = FAULTS_OF[arguments.stage](settings.task.name)
        faults = arguments.fault or list(possible)
        if misplaced := sorted(set(faults) - set(possible)):
            raise ConfigError(
                f"no '{misplaced[0]}' happens at --stage {arguments.stage}", expected=f"one of: {', '.join(possible)}"
            )
        result = run(settings, arguments.build, arguments.variant, faults, arguments.stage, arguments.seed)
        counts = result["summary"]
        if arguments.json:
            result["table"] = {
                fault: {key: vars(one) for key, one in row.items()} for fault, row in result["table"].items()
            }
            artifact.write_json(arguments.json, result)
        if counts["killed"] < counts["faults"] or counts["false_alarms"]:
            raise ReleaseRefused(
                f"{counts['faults'] - counts['killed']} fault(s) would ship, {counts['false_alarms']} clean "
                "artifact(s) would not",
                next_step="read the table above, then conf/gate",
            )

    return cli.execute(parser, argv, body)


if __name__ == "__main__":
    sys.exit(main())
