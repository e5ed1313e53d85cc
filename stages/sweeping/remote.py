"""Exchange results with hosts that share a DVC remote and no cache directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.sweeping.pipeline import Pipeline


class Remote:
    """A DVC remote, asked for one key at a time; `dvc pull --run-cache` would fetch every key there is."""

    def __init__(self, name: str | None) -> None:
        """Name a remote of .dvc/config, or none."""
        self.name = name

    def fetch(self, pipeline: Pipeline, stage: Any, key: str) -> bool:
        """Bring a stage's result into the cache; False when the remote has none."""
        if not self.name:
            return False
        odb, folder = self._runs(pipeline, key)
        if not odb.fs.exists(folder):
            return False
        here = Path(pipeline.repo.stage_cache.cache_dir) / key[:2] / key
        here.mkdir(parents=True, exist_ok=True)
        for found in odb.fs.find(folder):
            name = odb.fs.name(found)
            if name.startswith("."):  # still being written
                continue
            odb.fs.get_file(found, str(here / f".{name}.tmp"))
            (here / f".{name}.tmp").replace(here / name)
        pipeline.recall(stage, key)  # names what to pull
        for out in stage.outs:
            for objects in out.get_used_objs(remote=self.name).values():
                pipeline.repo.cloud.pull(objects, remote=self.name)
        return pipeline.recall(stage, key)

    def push(self, pipeline: Pipeline, stage: Any, key: str) -> None:
        """Hand a stage's result over: the objects first, so that whoever finds the key finds them."""
        if not self.name:
            return
        for out in stage.outs:
            for objects in out.get_used_objs(push=True).values():
                pipeline.repo.cloud.push(objects, remote=self.name)
        odb, folder = self._runs(pipeline, key)
        here = Path(pipeline.repo.stage_cache.cache_dir) / key[:2] / key
        odb.fs.makedirs(folder, exist_ok=True)
        for entry in here.glob("[!.]*"):
            temporary = odb.fs.join(folder, f".{entry.name}")
            odb.fs.put_file(str(entry), temporary)
            odb.fs.move(temporary, odb.fs.join(folder, entry.name))

    def _runs(self, pipeline: Pipeline, key: str) -> tuple[Any, str]:
        odb = pipeline.repo.cloud.get_remote_odb(self.name, "exchange a sweep's results", hash_name="md5-dos2unix")
        return odb, odb.fs.join(odb.path, "runs", key[:2], key)
