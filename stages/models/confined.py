"""Run a script of ours on a file from outside, in a child process that cannot take the machine or the stage with it.

A library in Rust or C++ that runs out of memory aborts the process, which no `except` catches; it has to be a child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

# The child sees none of the environment: what it parses was written by someone else.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
WALL_FACTOR = 10
LIMITED = """
import resource, runpy, sys
script, memory, seconds, *arguments = sys.argv[1:]
for what, most in ((resource.RLIMIT_AS, int(memory)), (resource.RLIMIT_CPU, int(seconds)), (resource.RLIMIT_CORE, 0)):
    try:
        resource.setrlimit(what, (most, most))
    except (ValueError, OSError):  # macOS refuses to limit an address space
        pass
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
"""


def run(script: Path, *arguments: str, memory_bytes: int, cpu_seconds: int) -> str | None:
    """Run a script under limits.

    Args:
        script: a file that imports nothing of Tinsmith.
        arguments: its command line.
        memory_bytes: address space it may map (not limited on macOS).
        cpu_seconds: CPU time it may use.

    Returns:
        None when it exits 0; else the last line it wrote, or what killed it.
    """
    limits = (str(memory_bytes), str(cpu_seconds))
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", LIMITED, str(script), *limits, *arguments],
            env=ENVIRONMENT | {"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WALL_FACTOR * cpu_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {WALL_FACTOR * cpu_seconds} s"
    if done.returncode == 0:
        return None
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it takes more than {cpu_seconds} s of CPU"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == -signal.SIGABRT or (said and said[-1].startswith("MemoryError")):
        return f"it takes more than {memory_bytes} bytes of memory"
    return said[-1] if said else f"it died of {signal.Signals(-done.returncode).name}"
