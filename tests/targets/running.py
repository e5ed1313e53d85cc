"""What the tests of every target do alike: run an artifact over texts, and write artifacts in a process of its own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.closure import ROOT
from stages.schema.task import Task
from stages.targets.base import write_signature
from stages.tasks.base import FORWARD, INPUTS
from stages.tasks.classify.interface import CALLS


def sign(directory: Path, longest: int, *, dynamic: bool = False, pad: int = 0) -> None:
    """Write the signature of a classifier of one length."""
    task = Task(name="classify", max_length=longest, sequence_lengths=[longest])
    write_signature(directory, task, CALLS, dynamic=dynamic, pad_token_id=pad)


class Recorder:
    """A runtime that answers from a table and remembers what it was asked."""

    label = "table"
    batches = False

    def __init__(self, answers: Any) -> None:
        self.answers: Any = answers
        self.shapes: list[tuple[int, ...]] = []

    def run(self, call: str, inputs: dict[str, Any]) -> dict[str, Any]:
        self.shapes.append(inputs["input_ids"].shape)
        row = int(inputs["input_ids"][0, 0])
        return {"logits": self.answers[row : row + 1]}


def logits_of(session: Any, inputs: dict[str, Any]) -> Any:
    """Logits of every row at its true length, so that every signature takes part."""
    lengths = inputs["attention_mask"].sum(axis=1)
    rows = [{name: inputs[name][i : i + 1, :n] for name in INPUTS} for i, n in enumerate(lengths)]
    return np.concatenate([session.run(FORWARD, row)["logits"] for row in rows])


def run_elsewhere(code: str, work: Any, directory: Path) -> None:
    """Run code that reads its pickled work from standard input, in a process that hashes strings otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(work),
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=directory,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
