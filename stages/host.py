"""Describe this host, and clear this clone of what is no longer chosen.

Reads: the operating system, params.yaml.
Writes: `host.json`: CPU, cores, instruction sets and runtime versions. Removes outputs of variants, compressions and
    conversions that params.yaml does not have.
Why: both say what clone this is, so they are done on every repro and never cached. Benchmarks depend on the host, and
    what another one measured is measured again. What `dvc exp apply` or a removed variant leaves in a directory that
    `gate`, `report` and `release` read whole would run them again, and stand in their lock.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, params, process
from stages.targets.facts import runtimes

# Directory → where `plan` lists what belongs there.
LISTED = {
    "artifact": "variants",
    "benchmark": "variants",
    "compressed": "compressions",
    "converted": "conversions",
    "coverage": "variants",
    "parity": "variants",
    "reference": "references",
}


def remove_leftovers(build: Path, plan: Mapping[str, Any]) -> list[str]:
    """Delete the outputs that no stage of the plan writes, with their statements and logs."""
    removed = []
    for stage, instances in LISTED.items():
        for path in sorted((build / stage).glob("*")):
            name = path.name.removesuffix(".log")
            if path.name.startswith(".") or name in plan[instances]:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()  # a log, or what DVC linked whole
            (build / "statements" / stage / f"{name}.json").unlink(missing_ok=True)
            if path.name == name:
                removed.append(path.as_posix())
    return removed


def run(out: Path, plan: Mapping[str, Any]) -> None:
    """Write the fingerprint, unchanged bytes on an unchanged host, and clear what lies beside it."""
    artifact.write_json(out, process.host_fingerprint(runtimes()))
    for path in remove_leftovers(out.parent, plan):
        print(f"removed '{path}': it is no longer chosen")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.execute(
        cli.parser(__doc__, "out"),
        argv,
        lambda arguments: run(arguments.out, params.select(params.read(arguments.params), "plan")),
    )


if __name__ == "__main__":
    sys.exit(main())
