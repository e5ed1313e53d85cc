"""Run artifacts on this host, those that are timed in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.core import artifact as files
from stages.core import process
from stages.core.errors import ArtifactError
from stages.running import worker
from stages.running.runner import RECEIPT, REQUEST, Receipt, Request
from stages.targets.facts import runtimes


def available() -> str | None:
    """Return None: this host is here."""
    return None


def fingerprint() -> dict[str, Any]:
    """Describe this host, as `host.json` does."""
    return dict(process.host_fingerprint(runtimes()))


def run(request: Request, artifact: Path, inputs: Path, out: Path) -> Receipt:
    """Do what is asked for, in another process where memory and time are measured: it costs a start of 0.3 s.

    Raises:
        ArtifactError: the artifact cannot be opened or run; of another process the last line is quoted.
    """
    if request.time is None:
        return worker.work(request, artifact, inputs, out)
    files.write_json(out / REQUEST, request.model_dump())
    places = {"request": out / REQUEST, "artifact": artifact, "inputs": inputs, "out": out}
    options = [part for name, path in places.items() for part in (f"--{name}", str(path))]
    done = subprocess.run([sys.executable, "-m", worker.__name__, *options], capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ArtifactError(f"'{artifact}' cannot be run: {last}")
    found: Receipt = files.read_json(out / RECEIPT)
    return found
