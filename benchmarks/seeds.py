"""Build the same configuration from several seeds, and print how near each check of each precision came to its bound.

    python -m benchmarks.seeds [--seeds 10] [--cache DIRECTORY] [-- HYDRA_OVERRIDE ...]

Every build is clean, so a failed check is a false alarm, or a precision that this student does not bear. A seed draws
the data, the teacher and the student anew. Each runs in a fresh clone; a relative path in an override is resolved from
there. With `--cache` the clones share a DVC cache that stays, and a second run builds only what changed since.
"""

from __future__ import annotations

import argparse
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


def build(seed: int, overrides: Sequence[str], cache: Path | None) -> dict[str, Any]:
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
        dvc = [sys.executable, "-m", "dvc"]
        for command in (
            [*dvc, "cache", "dir", "--local", str(cache or clone / ".dvc/cache")],
            [sys.executable, "-m", "stages.compose", *overrides, *seeds],
            [*dvc, "repro", "--quiet", "gate"],
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
    parser.add_argument("--cache", type=Path, help="DVC cache of all clones")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for stages.compose")
    arguments = parser.parse_args()
    cache = arguments.cache.resolve() if arguments.cache else None
    records = []
    for seed in range(1, arguments.seeds + 1):
        records.append(build(seed, arguments.overrides, cache))
        print_seed(records[-1])
    print_margins(records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
