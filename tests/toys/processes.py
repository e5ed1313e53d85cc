"""A process that differs from the test's own in what must not show in bytes."""

import os
import subprocess
import sys


def run_otherwise(*arguments):
    """Run Python with another hash seed and two threads, which wait without spinning where cores are scarce."""
    differing = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, *arguments], check=True, env={**os.environ, **differing})
