"""A stage ends with one line and an exit code, and leaves nothing half-written."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core import artifact, cli
from stages.core.errors import InputError
from stages.core.params import Section

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys, time
from pathlib import Path
import pytest

from stages.core import artifact, cli

def body(arguments):
    with artifact.writing(arguments.out, stage="writer", parents={}) as temporary:
        (temporary / "weights").write_bytes(bytes(4_000_000))
        print("half", flush=True)
        time.sleep(float(arguments.params.name))

sys.exit(cli.execute(cli.parser("Write.", "out"), None, body))
"""


def command(out, sleep="0"):
    return [sys.executable, "-c", WRITER, "--out", str(out), "--params", sleep]


def test_a_domain_error_is_one_line_and_exit_1(capsys):
    def body(_):
        raise InputError("'x' is empty", expected="at least one utterance", next_step="check the file")

    assert cli.execute(cli.parser("Doc."), [], body) == 1
    assert capsys.readouterr().err == "error: 'x' is empty; expected at least one utterance; next: check the file\n"


class Settings(Section):
    """What a stage reads from params.yaml."""

    seed: int
    target: str


def test_a_stage_is_given_its_settings_and_its_paths_in_order(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 3\ntargets: {cpu: fast}\n", encoding="utf-8")
    arguments = ["--out", "b", "--data", "a", "--target", "cpu", "--params", str(tmp_path / "params.yaml")]
    given = []
    keys = {"target": "targets.{target}"}
    assert cli.stage("Doc.", arguments, lambda *found: given.extend(found), Settings, "data", "out", keys=keys) == 0
    assert given == [Settings(seed=3, target="fast"), Path("a"), Path("b")]


def test_a_key_that_a_stage_needs_must_be_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.stage("Doc.", [], print, Settings, keys={"target": "targets.{target}"})
    assert "required: --target" in capsys.readouterr().err


def test_a_stage_without_settings_reads_no_params(tmp_path):
    given = []
    assert cli.stage("Doc.", ["--out", "b", "--params", str(tmp_path / "no")], given.append, None, "out") == 0
    assert given == [Path("b")]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """A limit on file size stands for the full disk: the same OSError from the same write."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(command(tmp_path / "out"), cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_killed_stage_leaves_no_output_and_the_rerun_clears_its_traces(tmp_path):
    process = subprocess.Popen(command(tmp_path / "out", "60"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    assert subprocess.run(command(tmp_path / "out"), cwd=ROOT, capture_output=True).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert artifact.problems(tmp_path / "out") == []


def test_a_defect_keeps_its_traceback(tmp_path):
    code = "from stages.core import cli; cli.execute(cli.parser('D.'), [], lambda _: 1 / 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_costs_are_recorded_only_where_asked(tmp_path, monkeypatch):
    assert cli.execute(cli.parser("D."), [], lambda _: None) == 0
    monkeypatch.setenv("TINSMITH_COSTS", str(tmp_path / "costs.jsonl"))
    assert cli.execute(cli.parser("D."), [], lambda _: time.sleep(0.01)) == 0
    cost = json.loads((tmp_path / "costs.jsonl").read_text(encoding="utf-8"))
    assert cost["wall_s"] >= 0.01
    assert cost["peak_rss_bytes"] > 1_000_000


HOLES = """
import argparse, sys
from pathlib import Path
import numpy as np
from stages.core import cli

def resident():
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096

def body(_):
    np.ones(3 << 20)  # 24 MiB, freed at once: glibc would keep the next blocks of this size
    before, kept = resident(), []
    for _ in range(4):
        block = np.ones(1 << 20)  # 8 MiB
        kept.append(np.ones(1 << 13))  # 64 KiB behind it, that stay
        del block
    print((resident() - before) >> 20)

sys.exit(cli.execute(argparse.ArgumentParser(), [], body))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory as Linux counts it")
def test_memory_of_large_blocks_is_given_back_when_they_are_freed():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4
