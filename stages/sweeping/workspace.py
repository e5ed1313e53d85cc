"""A worktree to build in: the same files, cache and neighbours as the repository, and nothing of the user's touched."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from stages.core.errors import InputError
from stages.schema.layout import HOST
from stages.sweeping import flight, git

PLACE = "work"


class Workspace:
    """A detached worktree of one process, used for one job after another.

    Attributes:
        root: the project.
        top: the worktree.
        path: the project in it.
    """

    def __init__(self, root: Path, top: Path, revision: str) -> None:
        """Check out `revision` at `top` and join it to the repository's cache."""
        self.root, self.top = root, top
        self.path = top / git.directory(root)
        top.parent.mkdir(parents=True, exist_ok=True)
        with flight.hold(top.parent / "locks", "git"):
            git.add_worktree(root, top, revision)
        self._share_cache()

    def _share_cache(self) -> None:
        """Use the repository's cache and remotes by absolute path; keep DVC's own index inside, to go with the rest."""
        from dvc.config import Config

        found = Config(str(self.root / ".dvc"))
        with Config(str(self.path / ".dvc")).edit("local") as settings:
            settings["remote"] = found["remote"]
            settings["cache"] = {**found["cache"], "dir": str(cache_directory(self.root))}
            settings["core"] = {**found["core"], "site_cache_dir": str(self.path / ".dvc/tmp/site")}

    def take(self, tree: dict[str, Any], text: str) -> None:
        """Clear the last job's build and take up another's parameters.

        Args:
            tree: the composed parameters.
            text: the same as the bytes of params.yaml.
        """
        build = self.path / "build"
        for path in (*build.glob("*"), *build.glob("statements/*")):
            if path.name not in (HOST, "statements"):  # this process's host stays the same
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.path / "dvc.lock").unlink(missing_ok=True)
        (self.path / "params.yaml").write_text(text, encoding="utf-8")
        for source in outside(tree["plan"]):
            self._link(source)

    def _link(self, source: PurePosixPath) -> None:
        """Let `../x` mean from the worktree what it means from the repository."""
        ups = sum(part == ".." for part in source.parts)
        if source.is_absolute() or not ups:
            return
        # As far as the sweep's own directory, which holds the worktrees.
        if ups > 2 + len(self.path.relative_to(self.top).parts):
            raise InputError(f"'{source}' lies too far outside the repository for a sweep", expected="an absolute path")
        relative = PurePosixPath(*source.parts[: ups + 1])
        link = Path(os.path.normpath(self.path / relative))
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(Path(os.path.normpath(self.root / relative)))

    def remove(self) -> None:
        """Remove the worktree and whatever was built in it; results are in the cache."""
        with flight.hold(self.top.parent / "locks", "git"):
            git.remove_worktrees(self.root, [self.top])


def outside(plan: dict[str, Any]) -> list[PurePosixPath]:
    """Return the data and teacher paths of a plan."""
    paths = [path for name, path in plan["data"].items() if name != "module"]
    return [PurePosixPath(path) for path in dict.fromkeys([*paths, plan["teacher"]["source"]])]


@cache
def cache_directory(root: Path) -> Path:
    """Return the repository's DVC cache, wherever its configuration puts it."""
    from dvc.config import Config

    return Path(Config(str(root / ".dvc"))["cache"].get("dir") or root / ".dvc/cache")


_open: dict[tuple[Path, str], Workspace] = {}


def of_this_process(root: Path, sweep: Path, revision: str) -> Workspace:
    """Return this process's worktree of `revision`, the same one for every job of a worker."""
    key = (sweep, revision)
    if key not in _open:
        me = f"{socket.gethostname()}-{os.getpid()}-{psutil.Process().create_time()}-{len(_open)}"
        _open[key] = Workspace(root, sweep / PLACE / me, revision)
        atexit.register(_open[key].remove)
    return _open[key]


def sweep_out(root: Path, sweep: Path) -> None:
    """Remove the worktrees of this host's dead processes, and end what still runs in them.

    A stage whose worker was killed runs on as an orphan: harmless to others, whose worktrees are theirs alone, but
    it would burn a core and contend with benchmarks.
    """
    with flight.hold(sweep / PLACE / "locks", "git"):
        dead = [path for path in (sweep / PLACE).glob(f"{socket.gethostname()}-*-*-*") if not _has_owner(path)]
        for process in psutil.process_iter(["cwd"]) if dead else ():
            where = process.info["cwd"]
            if where and any(Path(where).is_relative_to(path.resolve()) for path in dead):
                process.kill()
        git.remove_worktrees(root, dead)


def _has_owner(path: Path) -> bool:
    _, pid, started, _ = path.name.rsplit("-", 3)
    return flight.is_alive(int(pid), float(started))
