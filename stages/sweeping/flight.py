"""Hold a key alone, across processes and across hosts that share a folder.

A key is a folder of generations 0, 1, 2, …; whoever links a file there first holds it, which is atomic on NFS too, as
`fcntl` locks are not. The next generation may be created once the last is released or its holder is dead. Nothing
is ever deleted, so no waiter can remove the lock of another that was quicker to find the same dead holder.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil

HEARTBEAT_S = 5.0
# Only for holders on other hosts, whose processes cannot be seen. NFS clients may see a heartbeat a minute late.
STALE_S = 120.0
POLL_S = 0.2


@contextmanager
def hold(directory: Path, key: str, stale_s: float = STALE_S) -> Iterator[float]:
    """Wait until nobody else holds `key`, and hold it.

    Args:
        directory: the folder all contenders share.
        key: what to hold; a file name.
        stale_s: after how long without a heartbeat a holder on another host is taken for dead.

    Yields:
        Seconds waited.
    """
    started = time.monotonic()
    path = _acquire(directory / key, stale_s)
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beating.start()
    try:
        yield time.monotonic() - started
    finally:
        stop.set()
        beating.join()
        _replace(path, {**_me(), "released": True})


def _acquire(folder: Path, stale_s: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    silence = _Silence(stale_s)
    while True:
        generation = _last(folder)
        if generation is None or _is_free(folder / str(generation), silence):
            path = folder / str(0 if generation is None else generation + 1)
            if _create(path):
                return path
        else:
            time.sleep(POLL_S)


def _last(folder: Path) -> int | None:
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=None)


def _create(path: Path) -> bool:
    """Create a generation with its content at once; a link that exists already is refused, on NFS too."""
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.write_text(json.dumps(_me()), encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _is_free(path: Path, silence: _Silence) -> bool:
    found = _read(path)
    if found is not None and (found.get("released") or _died_here(found)):
        return True
    return silence.lasts(path)  # on another host only its heartbeat tells


def _died_here(found: dict[str, Any]) -> bool:
    mine = _me()
    if found["host"] != mine["host"]:
        return False
    if found["boot"] != mine["boot"]:
        return True
    return not is_alive(found["pid"], found["started"])


def is_alive(pid: int, started: float) -> bool:
    """Whether a process of this host still runs; another may have its number by now, and a zombie only waits."""
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _replace(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)


class _Silence:
    """How long a file's heartbeat has not changed, by this host's own clock: clocks of hosts differ."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.seen: tuple[Path, int] | None = None
        self.since = 0.0

    def lasts(self, path: Path) -> bool:
        try:
            now = (path, path.stat().st_mtime_ns)
        except OSError:
            return False
        if now != self.seen:
            self.seen, self.since = now, time.monotonic()
        return time.monotonic() - self.since > self.limit_s


def _me() -> dict[str, Any]:
    return _identity(os.getpid())


@cache
def _identity(pid: int) -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text(encoding="utf-8").strip() if boot.is_file() else "",
        "pid": pid,
        "started": psutil.Process(pid).create_time(),
    }
