"""Keep a benchmark alone among a sweep's stages on this host, and tell when something else worked beside it.

`flock` suits what `flight` must not use: it never leaves the host, and the kernel releases it with its process.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

CONTENDED = 0.1
"""Cores' worth of foreign work, above which a latency is marked."""


def _open(name: str) -> IO[bytes]:
    return (Path(tempfile.gettempdir()) / f"tinsmith-{os.getuid()}-{name}.lock").open("ab")


@contextmanager
def beside_others() -> Iterator[None]:
    """Run while other stages run, but not while a benchmark does."""
    with _open("turnstile") as turnstile, _open("host") as host:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(host, fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        yield


@contextmanager
def alone() -> Iterator[None]:
    """Run while no other stage of any sweep runs on this host.

    The turnstile is kept while waiting, so that a steady stream of other stages cannot hold a benchmark up.
    """
    with _open("turnstile") as turnstile, _open("host") as host:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(host, fcntl.LOCK_EX)
        yield


class Foreign:
    """How busy everything else on this host is, from its construction on."""

    def __init__(self) -> None:
        """Start watching."""
        self.started, self.busy = time.monotonic(), _busy_s()

    def cores(self, own_s: float) -> float:
        """Return the cores' worth of work that was not ours.

        Args:
            own_s: CPU seconds that were.
        """
        return max(0.0, (_busy_s() - self.busy - own_s) / (time.monotonic() - self.started))


def _busy_s() -> float:
    times = psutil.cpu_times()
    # Guest time is in user time already.
    others = ("iowait", "guest", "guest_nice")
    return float(sum(times) - times.idle - sum(getattr(times, name, 0.0) for name in others))
