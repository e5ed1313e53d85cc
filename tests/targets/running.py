"""What the tests of every target do alike: run an artifact over texts, and write artifacts in a process of its own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stages.targets.base import INPUTS
from tests.closure import ROOT


def logits_of(runtime: Any, inputs: dict[str, Any]) -> Any:
    """Logits of every row at its true length, so that every signature takes part."""
    lengths = inputs["attention_mask"].sum(axis=1)
    rows = [{name: inputs[name][i : i + 1, :n] for name in INPUTS} for i, n in enumerate(lengths)]
    return np.concatenate([runtime.run(row)["logits"] for row in rows])


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
