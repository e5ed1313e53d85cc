"""This process and this host: where toolchain noise goes, and what a measurement was taken on."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

# Instruction sets that change what int8 kernels compute or how fast: named in the fingerprint for people.
INTEGER_ISA = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve"}


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send everything written to stdout and stderr, by C++ too, to a log file beside the output.

    Converters print progress bars, warnings and absl logs by the hundred; a user needs them only on failure.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, source in zip((1, 2), saved, strict=True):
                os.dup2(source, target)
                os.close(source)


@contextmanager
def hidden(names: Sequence[str]) -> Iterator[None]:
    """Let `import NAME` fail for what is not imported yet, as if it were not installed.

    Libraries import others only because they are there; None in sys.modules raises ImportError, and
    `importlib.util.find_spec` finds nothing.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def host_fingerprint(runtimes: Sequence[str]) -> dict[str, str | int]:
    """Describe what decides a latency on this host.

    Args:
        runtimes: distribution names whose versions matter.

    Returns:
        CPU model, a digest of its flags, usable cores, OS, Python and runtime versions. Nothing that
        changes from one minute to the next (load, frequency): the fingerprint is a cache key.
    """
    model, flags = _cpu()
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "cpu_flags_sha256": hashlib.sha256(" ".join(sorted(flags)).encode()).hexdigest(),
        "cpu_isa": " ".join(sorted(flags & INTEGER_ISA)),
        "cpu_model": model,
        "machine": platform.machine(),
        "os": platform.system(),
        "python": platform.python_version(),
        **{f"runtime_{name}": metadata.version(name) for name in runtimes},
    }


def _cpu() -> tuple[str, set[str]]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine(), set()
    fields = {}
    for line in info.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", platform.machine()), set(flags.split())
