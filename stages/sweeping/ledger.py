"""A sweep's directory: one record per job, whatever host wrote it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stages.core.artifact import read_json, write_json

State = Literal["done", "stopped", "unsupported", "failed"]
STATES: tuple[State, ...] = ("done", "stopped", "unsupported", "failed")
DIGESTS = ("conf_digest", "params_digest")


def job_id(tree: Mapping[str, Any]) -> str:
    """Name a job by what it builds; a comment in conf/ makes no other job of it."""
    content = {key: value for key, value in tree.items() if key not in DIGESTS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class Ledger:
    """The records of a sweep."""

    def __init__(self, directory: Path) -> None:
        """Take the directory as it is; it need not exist yet."""
        self.directory = directory
        self.locks = directory / "locks"

    def job(self, identity: str) -> Path:
        """Return the directory of a job."""
        return self.directory / "jobs" / identity

    def read(self, identity: str) -> dict[str, Any] | None:
        """Return a job's record, or None when it has not ended yet."""
        path = self.job(identity) / "job.json"
        return dict(read_json(path)) if path.is_file() else None

    def write(self, record: Mapping[str, Any]) -> None:
        """Put a record down, whole or not at all."""
        write_json(self.job(record["id"]) / "job.json", record)

    def records(self) -> list[dict[str, Any]]:
        """Return all records, by job."""
        return [dict(read_json(path)) for path in sorted(self.directory.glob("jobs/*/job.json"))]

    def failure(self, key: str) -> str | None:
        """Return why a stage failed in this sweep, if it did: what fails for one job is not tried for the next."""
        path = self.directory / "failures" / f"{key}.json"
        return str(read_json(path)["reason"]) if path.is_file() else None

    def write_failure(self, key: str, stage: str, reason: str) -> None:
        """Remember that a stage failed."""
        write_json(self.directory / "failures" / f"{key}.json", {"stage": stage, "reason": reason})

    def forget_failures(self) -> None:
        """Let everything that failed be tried again."""
        shutil.rmtree(self.directory / "failures", ignore_errors=True)
        for record in self.records():
            if record["state"] == "failed":
                (self.job(record["id"]) / "job.json").unlink()
