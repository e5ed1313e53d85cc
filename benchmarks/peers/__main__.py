"""Build with every tool, measure side by side, print and write the tables.

    make bench-peers                                   about 25 minutes on two cores
    python -m benchmarks.peers --only student --builders tinsmith      keep what the peers built
    python -m benchmarks.peers --only student --builders               measure alone

Writes `peers.json` and `peers.md` into `--work`. What the figures mean, and how far: docs/peers.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import building, cascade, checkpoints, measuring, olive, optimum, overhead, table, tinsmith
from benchmarks.peers.building import Cost
from benchmarks.peers.measuring import Effort
from benchmarks.peers.recipes import Plan, Recipe, Step
from stages.core import artifact, process
from stages.targets.facts import runtimes

BUILDERS = ("optimum", "olive", "tinsmith")


def plan(checkpoint: Path, work: Path) -> dict[str, Plan]:
    """Say what each builder does with one checkpoint; ours must be composed already."""
    return {
        "optimum": optimum.plan(checkpoint, work / "optimum"),
        "olive": olive.plan(checkpoint, work / "olive"),
        "tinsmith": tinsmith.plan(work / "tinsmith"),
    }


def cheapest(recipes: Sequence[Recipe], costs: Mapping[str, Cost]) -> dict[str, float]:
    """CPU seconds of the cheapest way each builder has to one fp32 and one int8 artifact.

    A peer's int8 may stand alone: its fp32 graph is made on the way. Ours holds the reference and both parities.
    """
    ours = {step for one in recipes if one.name in tinsmith.PAIR for step in one.steps}
    found = {"tinsmith": sum(costs[step].cpu_s for step in ours)}
    for builder in ("olive", "optimum"):
        ways = [one for one in recipes if one.builder == builder and one.precision == "reduced"]
        spent = [building.total(one, costs) for one in ways]
        found[builder] = min(cost.cpu_s for cost in spent if cost.failure is None)
    return found


def build(name: str, real: Path, work: Path, builders: Collection[str]) -> None:
    """Let builders loose on one checkpoint, and keep what each step cost beside what the others' cost before."""
    print(name, flush=True)
    checkpoint, logs, kept = work / "checkpoints" / name, work / name / "logs", work / name / "costs.json"
    composed = tinsmith.compose(checkpoint, real / "clinc150", work / name / "tinsmith")
    building.build([composed], logs, essential=True)
    plans = plan(checkpoint, work / name)
    costs = building.from_json(artifact.read_json(kept)) if kept.is_file() else {}
    for builder in builders:
        costs |= building.build(plans[builder].steps, logs)
    artifact.write_json(kept, building.as_json(costs))


def measure(name: str, work: Path, effort: Effort) -> dict[str, Any]:
    """Measure what was built of one checkpoint."""
    costs = building.from_json(artifact.read_json(work / name / "costs.json"))
    plans = plan(work / "checkpoints" / name, work / name)
    recipes = [recipe for one in plans.values() for recipe in one.recipes]
    reference = work / name / "tinsmith/reference/none"
    found = measuring.measure(recipes, costs, reference, effort, trained=name in checkpoints.REAL)
    intake = sum(costs[step].cpu_s for step in tinsmith.INTAKE)
    return found | {"build": {"cpu_s": cheapest(recipes, costs), "intake_cpu_s": intake}}


def by_hand(real: Path, work: Path, effort: Effort, *, anew: bool) -> list[dict[str, Any]]:
    """Hold our other two targets against scripts, on the student; our build of it must be there."""
    place, kept = work / "plain", work / "plain/costs.json"
    if anew:
        steps = overhead.steps(work / "checkpoints/student", place, work / "student/tinsmith", real / "clinc150")
        artifact.write_json(kept, building.as_json(building.build(steps, place / "logs", essential=True)))
    return overhead.measure(place, building.from_json(artifact.read_json(kept)), effort)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--real", type=Path, default=Path("../shared/real"), help="CLINC150 and its checkpoints")
    parser.add_argument("--work", type=Path, default=Path(".bench/peers"))
    parser.add_argument("--build", type=Path, default=Path("build"), help="a build of experiment=clinc150")
    parser.add_argument("--only", nargs="*", choices=checkpoints.NAMES, default=list(checkpoints.NAMES))
    parser.add_argument("--builders", nargs="*", choices=BUILDERS, default=list(BUILDERS), help="who builds anew")
    parser.add_argument("--core", type=int, help="pin the measurement to one core")
    for option, value in {"repeats": 3, "rounds": 300, "utterances": 300}.items():
        parser.add_argument(f"--{option}", type=int, default=value)
    arguments = parser.parse_args()
    effort = Effort(arguments.repeats, arguments.rounds, arguments.utterances)
    if arguments.builders:
        places = ("--real", str(arguments.real), "--out", str(arguments.work / "checkpoints"))
        step = Step(
            "checkpoints", (sys.executable, "-m", checkpoints.__name__, *places), arguments.work / "checkpoints"
        )
        building.build([step], arguments.work / "logs", essential=True)
        for name in arguments.only:
            build(name, arguments.real, arguments.work, arguments.builders)
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    measured = {name: measure(name, arguments.work, effort) for name in arguments.only}
    result: dict[str, Any] = {"checkpoints": measured, "host": process.host_fingerprint(runtimes())}
    if "student" in arguments.only:
        result["plain"] = by_hand(arguments.real, arguments.work, effort, anew="tinsmith" in arguments.builders)
    if (arguments.build / "verdicts.json").is_file():
        result["cascade"] = cascade.measure(arguments.build, effort)
    artifact.write_json(arguments.work / "peers.json", result)
    text = table.markdown(result)
    (arguments.work / "peers.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
