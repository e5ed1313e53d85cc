"""What sweeps ask of git: the repository as it lies there as one commit, worktrees of it, and experiments.

The user's index, branch and files are never touched: commits are built in an index of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from stages.core.errors import InputError


def run(root: Path, *arguments: str, environment: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    """Run git and return what it printed, stripped.

    Raises:
        InputError: git refused; its last line is quoted.
    """
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        env={**os.environ, **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no message"]
        # Of a checkout that it does not trust, git says at the end how to trust it.
        advice = said[-1] if "safe.directory" in said[-1] else f"run it in '{root}' to see why"
        raise InputError(f"git {arguments[0]} failed: {said[0 if len(said) > 1 else -1]}", next_step=advice)
    return done.stdout.strip()


def directory(root: Path) -> str:
    """Return where a project lies in its repository: `` or `sub/project/`."""
    return run(root, "rev-parse", "--show-prefix")


def snapshot(root: Path) -> str:
    """Return a commit of all that git does not ignore here, edits and new files included; HEAD where it is clean."""
    head = run(root, "rev-parse", "HEAD")
    tree = _tree(root, head, lambda index: run(root, "add", "--all", ".", environment=index))
    if tree == run(root, "rev-parse", f"{head}^{{tree}}"):
        return head
    return _commit(root, tree, head, "Workspace of a sweep")


def save_experiment(root: Path, baseline: str, source: str, name: str, files: Mapping[str, Path]) -> str:
    """Save a job as a DVC experiment, visible to `dvc exp show`.

    `dvc exp save` in two worktrees at once races for its own refs; an experiment is no more than a commit under
    `refs/exps`, and writing one ref is atomic.

    Args:
        root: the repository.
        baseline: the commit it is listed under.
        source: the commit whose files it ran with.
        name: of the experiment.
        files: path in the project → file to put there.

    Returns:
        The ref.
    """
    inside = directory(root)
    blobs = {f"{inside}{path}": run(root, "hash-object", "-w", str(file)) for path, file in files.items()}

    def put(index: Mapping[str, str]) -> None:
        for path, blob in blobs.items():
            run(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", environment=index)

    commit = _commit(root, _tree(root, source, put), baseline, f"Job {name} of a sweep")
    ref = f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}"
    run(root, "update-ref", ref, commit)
    return ref


def add_worktree(root: Path, path: Path, revision: str) -> None:
    """Check `revision` out at `path`, without a branch."""
    run(root, "worktree", "add", "--quiet", "--detach", "--force", str(path), revision)


def remove_worktrees(root: Path, paths: Iterable[Path]) -> None:
    """Remove worktrees and all that lies in them; those that are gone already, or half there, too."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    run(root, "worktree", "prune")


def _tree(root: Path, start: str, change: Callable[[Mapping[str, str]], object]) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        run(root, "read-tree", start, environment=index)
        change(index)
        return run(root, "write-tree", environment=index)


def _commit(root: Path, tree: str, parent: str, message: str) -> str:
    """Commit under the parent's date: the same content gives the same commit, and a resumed sweep the same job."""
    date = run(root, "show", "--no-patch", "--format=%cI", parent)
    who = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in {"NAME": "tinsmith sweep", "EMAIL": "sweep@localhost", "DATE": date}.items()
    }
    return run(root, "commit-tree", tree, "-p", parent, "-m", message, environment=who)
