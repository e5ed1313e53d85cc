"""Build the same configuration from several seeds, and print how near each check of each precision came to its bound.

    python -m benchmarks.seeds [--seeds 10] [--record seeds.jsonl] [-- HYDRA_OVERRIDE ...]

Every build is clean, so a failed check is a false alarm, or a precision that this student does not bear. A seed draws
the data, the teacher and the student anew. Each runs in a fresh clone with its own cache; a relative path in an
override is resolved from the clone. Seeds that `--record` already holds are not built again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, params

SEEDED = ("data.seed", "teacher.training.seed", "distill.training.seed")


def build(seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Build one seed in a fresh clone, as far as the gate.

    Returns:
        The seed, its verdicts and the thresholds they were judged by.

    Raises:
        subprocess.CalledProcessError: the build did not reach its verdicts.
    """
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
        subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(clone)], check=True)
        seeds = [f"{name}={seed}" for name in SEEDED]
        for command in (
            [sys.executable, "-m", "stages.compose", *overrides, *seeds],
            [sys.executable, "-m", "dvc", "repro", "--quiet", "gate"],
        ):
            subprocess.run(command, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
        gate = params.read(clone / "params.yaml")["gate"]
        return {
            "seed": seed,
            "bounds": {name: [*gate["every"], *bounds] for name, bounds in gate["precisions"].items()},
            "variants": artifact.read_json(clone / "build/verdicts.json")["variants"],
        }


def print_seed(record: dict[str, Any]) -> None:
    """Print one line, and one more for each variant that fails."""
    failing = {key: entry for key, entry in record["variants"].items() if entry["verdict"] == "fail"}
    accuracy = {f"{entry['metrics']['accuracy']:.4f}" for entry in record["variants"].values()}
    print(
        f"seed {record['seed']}: {len(record['variants']) - len(failing)} of {len(record['variants'])} not refused,"
        f" accuracy {min(accuracy)} to {max(accuracy)}",
        flush=True,
    )
    for key, entry in failing.items():
        print(f"  {key}: {'; '.join(entry['reasons'])}", flush=True)


def print_margins(records: Sequence[dict[str, Any]]) -> None:
    """Print each bound, and what the builds measured nearest to it."""
    seen: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for record in records:
        for entry in record["variants"].values():
            for bound in record["bounds"][entry["precision"]]:
                side = "at_least" if bound.get("at_least") is not None else "at_most"
                if bound["metric"] in entry["metrics"]:
                    key = (entry["precision"], bound["metric"], f"{side} {bound[side]:g}")
                    seen[key].append(entry["metrics"][bound["metric"]])
    print(f"\n{'precision':<20}{'metric':<32}{'bound':<18}{'n':>4}{'nearest':>12}{'median':>12}")
    for (precision, metric, bound), values in sorted(seen.items()):
        ordered = sorted(values, reverse=bound.startswith("at_most"))
        print(
            f"{precision:<20}{metric:<32}{bound:<18}{len(values):>4}{ordered[0]:>12.5g}"
            f"{ordered[len(ordered) // 2]:>12.5g}"
        )


def main() -> int:
    """Build what is missing, record it, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 1 to this one")
    parser.add_argument("--record", type=Path, help="JSON lines, one per seed; read first, then added to")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for stages.compose")
    arguments = parser.parse_args()
    recorded: Path | None = arguments.record
    known = recorded.read_text().splitlines() if recorded and recorded.exists() else []
    records = {record["seed"]: record for record in map(json.loads, known)}
    for seed in range(1, arguments.seeds + 1):
        if seed not in records:
            records[seed] = build(seed, arguments.overrides)
            if recorded:
                with recorded.open("a") as lines:
                    lines.write(json.dumps(records[seed]) + "\n")
        print_seed(records[seed])
    print_margins([records[seed] for seed in sorted(records)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
