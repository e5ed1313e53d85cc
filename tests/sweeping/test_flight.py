"""One holder at a time, whoever dies when; benchmarks alone on their host."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stages.sweeping import flight

ROOT = Path(__file__).resolve().parents[2]

CONTENDER = """
import sys, time
from pathlib import Path
from stages.sweeping import flight
for _ in range(4):
    with flight.hold(Path(sys.argv[1]), "key"):
        log = Path(sys.argv[1]) / "log"
        with log.open("a") as stream:
            stream.write("in\\n")
        time.sleep(0.02)
        with log.open("a") as stream:
            stream.write("out\\n")
"""

HOLDER = """
import sys, time
from pathlib import Path
from stages.sweeping import flight
with flight.hold(Path(sys.argv[1]), "key"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(flight, "POLL_S", 0.02)
    monkeypatch.setattr(flight, "HEARTBEAT_S", 0.1)


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def holder_elsewhere(folder, generation=0):
    """What a process on another host leaves."""
    path = folder / "key" / str(generation)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": "elsewhere", "boot": "1", "pid": 1, "started": 0.0}), encoding="utf-8")
    return path


def acquires(folder, stale_s):
    """Try to hold the key in a thread; the event tells that it is held."""
    held = threading.Event()

    def attempt():
        with flight.hold(folder, "key", stale_s):
            held.set()

    threading.Thread(target=attempt, daemon=True).start()
    return held


def test_processes_hold_a_key_one_at_a_time_even_when_they_all_find_a_dead_holder(tmp_path):
    dead = python(HOLDER, tmp_path)
    assert dead.stdout.readline() == "held\n"
    contenders = [python(CONTENDER, tmp_path) for _ in range(4)]
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert [process.wait() for process in contenders] == [0] * 4
    lines = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert lines == ["in", "out"] * 16


def test_a_holder_that_waits_for_its_parent_to_collect_it_is_dead(tmp_path):
    zombie = python(HOLDER, tmp_path)
    assert zombie.stdout.readline() == "held\n"
    os.kill(zombie.pid, signal.SIGKILL)
    with flight.hold(tmp_path, "key") as waited_s:
        assert waited_s >= 0
    zombie.wait()


def test_a_holder_on_another_host_is_left_alone_while_its_heart_beats(tmp_path):
    path = holder_elsewhere(tmp_path)
    stop = threading.Event()
    beating = threading.Thread(target=flight._beat, args=(path, stop))
    beating.start()
    held = acquires(tmp_path, stale_s=0.5)
    assert not held.wait(1.5)
    stop.set()
    beating.join()
    assert held.wait(30)


def test_the_heart_of_a_holder_beats(tmp_path):
    with flight.hold(tmp_path, "key"):
        path = tmp_path / "key/0"
        before = path.stat().st_mtime_ns
        beaten = threading.Event()
        for _ in range(300):
            if path.stat().st_mtime_ns > before:
                break
            beaten.wait(0.1)
        assert path.stat().st_mtime_ns > before


def test_a_holder_from_before_a_reboot_is_dead(tmp_path):
    path = holder_elsewhere(tmp_path)
    path.write_text(json.dumps({**flight._me(), "boot": "an earlier one"}), encoding="utf-8")
    with flight.hold(tmp_path, "key"):
        assert (tmp_path / "key/1").is_file()


def test_nothing_is_deleted_so_no_waiter_can_remove_anothers_lock(tmp_path):
    for _ in range(3):
        with flight.hold(tmp_path, "key"):
            pass
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["0", "1", "2"]


BENCHMARK = """
import sys, time
from pathlib import Path
from stages.sweeping import alone
kind, log = sys.argv[1], Path(sys.argv[2])
for _ in range(3):
    with alone.alone() if kind == "benchmark" else alone.beside_others():
        with log.open("a") as stream:
            stream.write(f"begin {kind}\\n")
        time.sleep(0.03)
        with log.open("a") as stream:
            stream.write(f"end {kind}\\n")
"""


def test_a_benchmark_never_runs_beside_another_stage_and_the_others_run_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    log = tmp_path / "log"
    processes = [python(BENCHMARK, kind, log) for kind in ("benchmark", "stage", "stage", "benchmark")]
    assert [process.wait() for process in processes] == [0] * 4
    running = []
    for line in log.read_text(encoding="utf-8").splitlines():
        word, kind = line.split()
        if word == "begin":
            assert not running or (kind == "stage" and "benchmark" not in running), log.read_text(encoding="utf-8")
            running.append(kind)
        else:
            running.remove(kind)
    assert not running
