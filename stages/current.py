"""Say whether params.yaml and DVC's locks are complete and current, for CI and before a commit.

Reads: conf/, params.yaml, each dvc.yaml with its lock, and the code; nothing of build/ need be here, nothing is run or
    fetched.
Writes: nothing; one line, exit 0 or 1.
Why: `dvc status -q` is 1 for ever, because `host`, `track` and `promote` run on every repro, and in a fresh clone it
    names every output as deleted.

    python -m stages.current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import cli, params
from stages.core.errors import ArtifactError
from stages.schema.fresh import check_fresh

CONF = Path("conf")


def lock_of(stage: Any) -> Path:
    """Return where DVC records a stage, relative to the directory of the project."""
    return Path(stage.path_in_repo).with_suffix(".lock")


def changes(stage: Any, outs: Mapping[str, Any], absent: set[str]) -> Iterator[str]:
    """Say what about a stage is not as its lock has it.

    Args:
        stage: of a dvc.yaml, with what the lock says of it.
        outs: path → output, of all stages.
        absent: collects inputs from outside that are not here, so that nothing can be said of them.
    """
    from dvc.dependency import ParamsDependency

    if all(not out.hash_info for out in stage.outs) and all(not dep.hash_info for dep in stage.deps):
        yield f"{lock_of(stage)} does not have it"
        return
    if stage.cmd_changed:
        yield "its command"
    for out in stage.outs:
        if not out.hash_info:
            yield f"{lock_of(stage)} lacks '{out.def_path}'"
    for dep in stage.deps:
        path = str(dep.def_path)
        below = [out for name, out in outs.items() if name == path or name.startswith(f"{path}/")]
        if isinstance(dep, ParamsDependency):
            yield from (f"'{key}' in {path}" for found in dep.status().values() for key in found)
        elif below:
            if not _made_of(dep, below):
                yield f"'{path}'"
        elif not dep.exists:
            absent.add(path)
        elif dep.status():
            yield f"'{path}'"


def _made_of(dep: Any, below: Sequence[Any]) -> bool:
    """Whether the lock has a stage read what it has other stages write.

    Of a directory with several outputs in it the lock has sizes and numbers of files alone: a digest needs its files.
    """
    if len(below) == 1 and below[0].def_path == dep.def_path:
        return bool(dep.hash_info == below[0].hash_info)
    if not all(out.meta and out.hash_info for out in below) or not dep.meta:
        return False
    files = sum(out.meta.nfiles or 1 for out in below)
    return bool(dep.meta.nfiles == files and dep.meta.size == sum(out.meta.size for out in below))


def run() -> str:
    """Compare the lock with what lies here.

    Returns:
        A line that says what was compared.

    Raises:
        StaleParams: params.yaml is not the composition of conf/.
        ArtifactError: names the first stage that would run, and why.
    """
    check_fresh(params.read(), CONF)
    from dvc.repo import Repo

    absent: set[str] = set()
    with Repo() as repo:
        stages = sorted(repo.index.stages, key=lambda stage: str(stage.addressing))
        locks = {stage.addressing: lock_of(stage) for stage in stages}
        for lock in sorted(set(locks.values())):
            if not lock.is_file():
                raise ArtifactError(f"there is no {lock}", next_step="run `dvc repro`, then commit it")
        outs = {str(out.def_path): out for stage in stages for out in stage.outs}
        found = {stage.addressing: list(changes(stage, outs, absent)) for stage in stages}
    stale = {name: why for name, why in found.items() if why}
    if stale:
        name, why = next(iter(stale.items()))
        others = f" (and {len(stale) - 1} more stages)" if len(stale) > 1 else ""
        raise ArtifactError(
            f"{locks[name]} is stale: '{name}' has changed: {', '.join(why)}{others}",
            next_step=f"run `dvc repro`, then commit {locks[name]}",
        )
    unseen = f"; not here, so not compared: {', '.join(sorted(absent))}" if absent else ""
    return f"params.yaml and dvc.lock are complete and current: {len(stages)} stages{unseen}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.execute(cli.parser(__doc__), argv, lambda _: print(run()))


if __name__ == "__main__":
    sys.exit(main())
