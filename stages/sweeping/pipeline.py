"""The stages of a worktree as DVC sees them, told apart by DVC's own identity, without a file of theirs.

DVC's run-cache names a result by command, parameters, and path and md5 of every dependency. All of these follow from
the sources and from what the run-cache says of the stages before, so a job whose stages were all computed somewhere is
answered in a third of a second, with nothing checked out and no lock file rewritten; `dvc repro` would take a process,
a checkout and a rewrite of dvc.lock per stage. What is computed here is saved as DVC saves it: `dvc repro` finds it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from stages.core.errors import ArtifactError, ConfigError

# Cheap before costly, so that a variant that cannot be used is found out early; whatever they need comes first.
RANKS = {"quantize": 1, "coverage": 2, "parity": 3, "benchmark": 4, "gate": 5, "explain": 6, "report": 7, "track": 8}

Sources = dict[str, tuple[Any, Any]]


class Pipeline:
    """What is to be done to reach some stages of a worktree.

    Attributes:
        order: stages, each after those it needs, cheap ones first.
    """

    def __init__(self, root: Path, goals: Sequence[str], sources: Sources) -> None:
        """Read dvc.yaml and params.yaml.

        Args:
            root: the worktree.
            goals: names of the stages to reach.
            sources: digests of files that no stage writes, kept from job to job of one worktree.
        """
        from dvc.repo import Repo

        self.repo = Repo(str(root))
        self.sources = sources
        self.outs: dict[str, Any] = {}
        self.graph = self.repo.index.graph  # from a stage to what it needs
        self.order = self._order(goals)

    def close(self) -> None:
        """Let go of DVC's databases."""
        self.repo.close()

    def _order(self, goals: Sequence[str]) -> list[Any]:
        named = {stage.name: stage for stage in self.graph}
        missing = [goal for goal in goals if goal not in named]
        if missing:
            raise ConfigError(f"dvc.yaml has no stage '{missing[0]}'")
        needed = set(goals)
        for goal in goals:
            needed |= {stage.name for stage in nx.descendants(self.graph, named[goal])}
        part = self.graph.subgraph([named[name] for name in needed]).reverse()
        return list(nx.lexicographical_topological_sort(part, key=_rank))

    def identify(self, stage: Any) -> str:
        """Fill in the digests of everything a stage depends on, and return its key in DVC's run-cache.

        Every stage before it must have been identified, and restored or run.
        """
        for dep in stage.deps:
            self._fill(dep)
        return _key(stage)

    def _fill(self, dep: Any) -> None:
        path = str(dep.def_path)
        if path in self.outs:
            dep.hash_info, dep.meta = self.outs[path].hash_info, self.outs[path].meta
        elif below := {name: out for name, out in self.outs.items() if name.startswith(f"{path}/")}:
            dep.hash_info, dep.meta = _joined(path, below)
        elif path == "params.yaml":
            dep.save()
        else:
            if path not in self.sources:
                dep.save()
                self.sources[path] = dep.hash_info, dep.meta
            dep.hash_info, dep.meta = self.sources[path]

    def recall(self, stage: Any, key: str) -> bool:
        """Take a stage's outputs from the run-cache, by name only; False when it or the cache lacks them."""
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.meta import Meta

        folder = Path(self.repo.stage_cache.cache_dir) / key[:2] / key
        # Beside entries, named by a sha256, may lie one that another job is writing.
        entries = [path for path in folder.glob("*") if len(path.name) == len(key)]
        entries.sort(key=lambda path: path.stat().st_mtime)
        entry = self.repo.stage_cache._load_cache(key, entries[-1].name) if entries else None
        if entry is None:
            return False
        recorded = {out["path"]: out for out in entry["outs"]}
        for out in stage.outs:
            found = recorded[out.def_path]
            out.obj, out.hash_info, out.meta = None, HashInfo("md5", found["md5"]), Meta.from_dict(found)
        if any(out.changed_cache() for out in stage.outs):
            return False
        self._keep(stage)
        return True

    def is_kept(self, stage: Any) -> bool:
        """Whether DVC keeps a stage's results for later; `host` and `track` are done again instead."""
        return not stage.always_changed and not any(out.persist for out in stage.outs)

    def lay_out(self, stage: Any) -> None:
        """Check out all that comes before a stage, as `dvc repro` would have left it, and clear what it writes."""
        for before in nx.descendants(self.graph, stage):
            for out in before.outs:
                self.check_out(str(out.def_path))
        for out in stage.outs:
            target = Path(out.fs_path)
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def lies_there(self, stage: Any) -> bool:
        """Whether this process ran a stage for an earlier job and nothing but another process could change it."""
        if not stage.outs or not all(Path(out.fs_path).exists() for out in stage.outs):
            return False
        for out in stage.outs:
            out.save()
        self._keep(stage)
        return True

    def check_out(self, path: str) -> Path:
        """Lay a stage's output out in the worktree, and return where."""
        out = self.outs[path]
        if not Path(out.fs_path).exists():
            out.checkout(force=True)
        return Path(out.fs_path)

    def save(self, stage: Any, key: str) -> None:
        """Hand a stage's fresh outputs to DVC's cache and run-cache.

        Raises:
            ArtifactError: DVC, reading the files, sees another key: something wrote into the worktree meanwhile.
        """
        for out in stage.outs:
            out.save()
            out.commit()
        if self.is_kept(stage):
            stage.save_deps()
            if _key(stage) != key:
                raise ArtifactError(f"the inputs of '{stage.name}' changed while it ran", next_step="start again")
            self.repo.stage_cache.save(stage)
        self._keep(stage)

    def _keep(self, stage: Any) -> None:
        self.outs |= {str(out.def_path): out for out in stage.outs}

    def file(self, path: str) -> Path:
        """Return where the cache has a file below build/, without checking it out.

        Raises:
            ArtifactError: no stage so far wrote it.
        """
        for name, out in self.outs.items():
            if name == path:
                return Path(out.cache.oid_to_path(out.hash_info.value))
            if path.startswith(f"{name}/"):
                inside = tuple(path.removeprefix(f"{name}/").split("/"))
                found = out.get_obj().get(inside)
                if found:
                    return Path(out.cache.oid_to_path(found[1].value))
        raise ArtifactError(f"no stage wrote '{path}'")

    def json(self, path: str) -> Any:
        """Read a JSON file below build/ from the cache."""
        return json.loads(self.file(path).read_text(encoding="utf-8"))

    def size_bytes(self, directory: str, prefix: str) -> int:
        """Return the bytes of the files of an output directory whose names begin with `prefix`."""
        out = self.outs[directory]
        oids = [oid.value for key, _, oid in out.get_obj() if key[0].startswith(prefix)]
        return sum(Path(out.cache.oid_to_path(oid)).stat().st_size for oid in oids)

    def write_lock(self, path: Path, done: Sequence[Any]) -> None:
        """Write dvc.lock once, for all stages that were reached and stand in its dvc.yaml."""
        from dvc.stage.serialize import to_single_stage_lockfile
        from dvc.utils.serialize import dump_yaml

        own = Path(self.repo.root_dir) / "dvc.yaml"
        stages = {stage.name: to_single_stage_lockfile(stage) for stage in done if Path(stage.path) == own}
        dump_yaml(str(path), {"schema": "2.0", "stages": stages})


def _key(stage: Any) -> str:
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    return str(_get_cache_hash(to_single_stage_lockfile(stage), key=True))


def _rank(stage: Any) -> tuple[int, str]:
    return RANKS.get(stage.name.partition("@")[0], 0), stage.name


def _joined(path: str, below: Mapping[str, Any]) -> tuple[Any, Any]:
    """Digest a directory of several outputs as DVC would if it lay there."""
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for name, out in below.items():
        prefix = tuple(name.removeprefix(f"{path}/").split("/"))
        if out.hash_info.isdir:
            for key, meta, oid in out.get_obj():
                tree.add(prefix + key, meta, oid)
        else:
            tree.add(prefix, out.meta, out.hash_info)
    tree.digest()
    return tree.hash_info, Meta(nfiles=len(tree))
