"""Real sweeps of a tiny pipeline: every stage once, killed and resumed, failing and screened; DVC agrees with it."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
pytestmark = pytest.mark.pipeline

GRID = ("student=tiny,none", "compression=none", "target=onnx-cpu", "precision=fp32,dynamic_wi8_afp32")
PHONE = "+sweep.profiles.phone={target: onnx-cpu, budgets: [%s], prefer: latency_p50_ms, tolerance: 0.0}"


class Repository:
    """A clone whose pipeline is the tiny one, at the top of its git repository or below it."""

    def __init__(self, path, top=None):
        self.path = path
        listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in listing.splitlines():
            if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        shutil.copy(HERE.parent / "toys/pipeline.yaml", path / "dvc.yaml")
        shutil.copy(HERE.parent / "toys/pipeline.py", path / "tiny.py")
        self.log = path.parent / f"{path.name}.log"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TINY_LOG": str(self.log),
            # Where the host-wide lock lies: another sweep on this host must not hold these up.
            "TMPDIR": str(path.parent),
        }
        for command in (
            ["git", "init", "--quiet"],
            ["git", "add", "--all"],
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "clone"],
        ):
            subprocess.run(command, cwd=top or path, check=True)

    def run(self, *command):
        return subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True)

    def command(self, *overrides):
        return [sys.executable, "-m", "stages.sweep", *overrides, "sweep.track=false"]

    def sweep(self, *overrides, code=0):
        done = self.run(*self.command(*overrides))
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def records(self, name="default"):
        found = [
            json.loads(path.read_text(encoding="utf-8")) for path in self.path.glob(f"sweeps/{name}/jobs/*/job.json")
        ]
        return {" ".join(o for o in r["overrides"] if o.startswith(("student", "precision"))): r for r in found}

    def ran(self, word="end"):
        """How often each stage of each student was begun, or ended."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.is_file() else []
        return Counter(line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} "))

    def damaged(self):
        """Objects of the cache whose bytes are not what their names say."""
        objects = [path for path in self.path.glob(".dvc/cache/files/md5/*/*") if path.is_file()]
        assert objects
        names = {path: (path.parent.name + path.name).removesuffix(".dir") for path in objects}
        return [str(path) for path, md5 in names.items() if hashlib.md5(path.read_bytes()).hexdigest() != md5]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A grid of four jobs in two processes, from nothing."""
    repository = Repository(tmp_path_factory.mktemp("sweep") / "clone")
    (repository.path / "conf/student/none.yaml").open("a", encoding="utf-8").write("# an edit that is not committed\n")
    (repository.path / "notes.txt").write_text("not added\n", encoding="utf-8")
    repository.before = repository.run("git", "status", "--short").stdout, repository.run("git", "diff").stdout
    repository.output = repository.sweep(*GRID, "hydra.launcher.n_jobs=2")
    return repository


def test_a_grid_computes_every_stage_once(finished):
    assert {record["state"] for record in finished.records().values()} == {"done"}
    assert len(finished.records()) == 4
    ran = finished.ran("begin")
    assert ran["prepare shape"] + ran["prepare none"] == 1  # it does not depend on the student
    assert ran["distill shape"] == ran["distill none"] == 1
    assert ran["quantize@onnx-cpu-fp32 shape"] == 1
    assert set(ran.values()) == {1}
    sharing = json.loads((finished.path / "sweeps/default/pareto.json").read_text(encoding="utf-8"))["sharing"]
    assert {row["most"] for row in sharing} == {1}
    assert {row["stage"]: (row["needed"], row["different"]) for row in sharing}["distill"] == (4, 2)


def test_a_project_in_a_larger_repository_sweeps_in_its_own_place(tmp_path):
    top = tmp_path / "monorepo"
    place = top / "ml/tinsmith"
    place.mkdir(parents=True)
    (top / "app.txt").write_text("another team's", encoding="utf-8")
    repository = Repository(place, top)
    (top / "app.txt").write_text("another team's, edited", encoding="utf-8")
    output = repository.sweep("student=tiny,none", "compression=none", "target=onnx-cpu", "precision=fp32")
    assert {record["state"] for record in repository.records().values()} == {"done"}, output
    assert repository.run("git", "-C", str(top), "status", "--short", "-uno").stdout == " M app.txt\n"
    assert len(repository.run("git", "worktree", "list").stdout.splitlines()) == 1
    (record, *_) = repository.records().values()
    refs = repository.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    (ref,) = [name for name in refs if name.endswith(record["experiment"])]
    assert repository.run("git", "diff", "--name-only", "HEAD", ref).stdout.split() == [
        "ml/tinsmith/dvc.lock",
        "ml/tinsmith/params.yaml",
    ]


def test_a_sweep_leaves_the_workspace_as_it_was(finished):
    assert (finished.run("git", "status", "--short").stdout, finished.run("git", "diff").stdout) == finished.before
    assert not (finished.path / "build").exists()
    assert len(finished.run("git", "worktree", "list").stdout.splitlines()) == 1


def test_edits_and_new_files_that_are_not_committed_are_in_the_snapshot_of_a_sweep(finished):
    names = finished.run("git", "ls-tree", "-r", "--name-only", "refs/sweeps/default").stdout
    assert "notes.txt" in names.splitlines()
    assert "an edit that" in finished.run("git", "show", "refs/sweeps/default:conf/student/none.yaml").stdout


def test_dvc_takes_over_what_a_sweep_built_and_runs_nothing(finished):
    record = finished.records()["student=none precision=fp32"]
    job = finished.path / "sweeps/default/jobs" / record["id"]
    kept = (finished.path / "params.yaml").read_bytes()
    before = finished.ran()
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(job / name, finished.path / name)
    try:
        done = finished.run("dvc", "repro", "--pull", "explain")
        assert done.returncode == 0, done.stderr
        assert "Running stage" not in done.stdout
        assert finished.run("dvc", "status", "explain").stdout.strip() == "Data and pipelines are up to date."
        assert (finished.path / "build/verdicts.json").read_bytes() == (job / "verdicts.json").read_bytes()
        lock = (job / "dvc.lock").read_text(encoding="utf-8")
        assert "build/artifact/onnx-cpu-fp32" in lock
    finally:
        (finished.path / "params.yaml").write_bytes(kept)
        (finished.path / "dvc.lock").unlink()
        shutil.rmtree(finished.path / "build")
    assert finished.ran() == before


def test_every_job_is_a_dvc_experiment(finished):
    shown = json.loads(finished.run("dvc", "exp", "show", "--json").stdout)
    baseline = next(entry for entry in shown if entry["rev"] != "workspace")
    found = {one["name"]: one["revs"][0]["data"] for one in baseline["experiments"]}
    assert set(found) == {f"default-{record['id']}" for record in finished.records().values()}
    kinds = {data["params"]["params.yaml"]["data"]["student"]["kind"] for data in found.values()}
    assert kinds == {"shape", "none"}
    assert all(data["metrics"]["build/metrics.json"]["data"]["accuracy"] > 0.8 for data in found.values())


def test_what_a_sweep_found_stands_in_json_csv_and_on_a_page(finished):
    directory = finished.path / "sweeps/default"
    found = json.loads((directory / "pareto.json").read_text(encoding="utf-8"))
    front = {point["label"] for point in found["platforms"]["onnx-cpu"]["front"]}
    assert front == {"onnx-cpu-fp32 · student=tiny", "onnx-cpu-dynamic_wi8_afp32 · student=tiny"}
    assert found["recommendations"]["server"]["point"]["variant"] == "onnx-cpu-fp32"
    assert found["recommendations"]["iphone"]["point"] is None
    assert (directory / "points.csv").read_text(encoding="utf-8").count("\n") == 5
    page = (directory / "index.html").read_text(encoding="utf-8")
    assert "onnx-cpu-dynamic_wi8_afp32 · student=tiny" in page
    assert "4 jobs" in finished.output


def test_the_same_sweep_again_runs_nothing_and_another_one_recalls_everything(finished):
    before, records = finished.ran("begin"), finished.records()
    assert "4 done" in finished.sweep(*GRID, "hydra/launcher=basic")
    assert finished.records() == records
    finished.sweep(*GRID, "hydra/launcher=basic", "sweep.name=other")
    assert finished.ran("begin") == before
    steps = [step for record in finished.records("other").values() for step in record["steps"]]
    assert steps
    assert {step["how"] for step in steps} == {"recalled"}


def test_a_job_that_no_device_can_use_is_stopped_before_its_benchmark(finished):
    before = finished.ran("begin")
    small = ("~sweep.profiles.server", PHONE % "{metric: size_bytes, unit: byte, at_most: 200.0}")
    finished.sweep("student=clinc150", *GRID[1:], "hydra/launcher=basic", "sweep.name=screened", *small)
    records = finished.records("screened")
    stopped = records["student=clinc150 precision=fp32"]
    assert stopped["state"] == "stopped"
    assert stopped["reason"] == "after quantize@onnx-cpu-fp32: onnx-cpu-fp32: phone: size_bytes 400 > 200 byte"
    assert records["student=clinc150 precision=dynamic_wi8_afp32"]["state"] == "done"
    began = finished.ran("begin") - before
    assert "benchmark@onnx-cpu-fp32 shape" not in began
    assert "parity@onnx-cpu-fp32 shape" not in began


def test_a_student_that_keeps_too_little_of_its_teacher_is_stopped_before_it_is_lowered(finished):
    enough = "{metric: validation_kept_of_teacher, unit: fraction, at_least: 0.9}"
    share = ("~sweep.profiles.server", PHONE % enough)
    finished.sweep(
        "student=clinc150,none", *GRID[1:3], "precision=fp32", "hydra/launcher=basic", "sweep.name=share", *share
    )
    records = finished.records("share")
    assert records["student=clinc150 precision=fp32"]["state"] == "done"
    stopped = records["student=none precision=fp32"]
    assert stopped["reason"] == "after distill: onnx-cpu-fp32: phone: validation_kept_of_teacher 0.87 < 0.9 fraction"
    assert [step["stage"] for step in stopped["steps"]][-1] == "distill"


def test_an_unsupported_combination_is_recorded_as_such(finished):
    finished.sweep("compression=none", "target=onnx-cpu", "precision=pal4", "hydra/launcher=basic", "sweep.name=no")
    assert finished.records("no")["precision=pal4"]["state"] == "unsupported"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("sweep.goals=[speed]", "error: 'sweep.goals'.*no such metric: speed"),
        ("variant=[onnx-cpu-fp32]", "a sweep crosses compression × target × precision"),
        (PHONE % "{metric: size_bytes, unit: MB, at_most: 5.0}", "'size_bytes' is measured in 'byte'"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_one_line_before_any_job(finished, override, complaint):
    output = finished.sweep("target=onnx-cpu", "hydra/launcher=basic", "sweep.name=bad", override, code=1)
    assert "Traceback" not in output
    assert len([line for line in output.splitlines() if line.startswith("error: ")]) == 1
    assert re.search(complaint, output)
    assert not finished.records("bad")


def test_a_failing_job_stops_no_other_and_is_tried_again_only_when_asked(tmp_path):
    repository = Repository(tmp_path / "clone")
    fail = Path(f"{repository.log}.fail")
    fail.write_text("parity@onnx-cpu-fp32", encoding="utf-8")
    overrides = ("student=tiny", "compression=none", "target=onnx-cpu", "precision=fp32,dynamic_wi8_afp32")
    output = repository.sweep(*overrides, "hydra/launcher=basic", code=1)
    records = repository.records()
    failed = records["student=tiny precision=fp32"]
    assert failed["state"] == "failed"
    assert failed["reason"] == "parity@onnx-cpu-fp32: 'parity@onnx-cpu-fp32' was told to fail"
    assert records["student=tiny precision=dynamic_wi8_afp32"]["state"] == "done"
    assert f"failed: precision=fp32: {failed['reason']}" in output
    fail.unlink()
    before = repository.ran("begin")
    repository.sweep(*overrides, "hydra/launcher=basic", code=1)
    assert repository.ran("begin") == before
    repository.sweep(*overrides, "hydra/launcher=basic", "sweep.retry_failed=true")
    assert repository.records()["student=tiny precision=fp32"]["state"] == "done"
    assert repository.ran()["distill shape"] == 1


def test_a_killed_sweep_goes_on_where_it_was_and_repeats_nothing_that_was_done(tmp_path):
    repository = Repository(tmp_path / "clone")
    slow = {**repository.environment, "TINY_SLEEP": "0.3"}
    process = subprocess.Popen(
        repository.command(*GRID, "hydra.launcher.n_jobs=2"),
        cwd=repository.path,
        env=slow,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: sum(repository.ran().values()) >= 9 or process.poll() is not None)
    kill_all(process)
    ended, begun = repository.ran(), repository.ran("begin")
    assert 9 <= sum(ended.values()) < 19, "it was to be killed in the middle"
    done = {name for name, record in repository.records().items() if record["state"] == "done"}
    repository.sweep(*GRID, "hydra.launcher.n_jobs=2")
    assert {record["state"] for record in repository.records().values()} == {"done"}
    again = repository.ran("begin") - begun
    # A stage may have ended before the kill and its result not yet have reached the cache: two workers, two stages.
    assert sum(min(count, again[stage]) for stage, count in ended.items()) <= 2
    assert len(done) < 4
    assert not repository.damaged()
    assert len(repository.run("git", "worktree", "list").stdout.splitlines()) == 1


def test_concurrent_sweeps_of_which_some_are_killed_share_one_cache_and_damage_nothing(tmp_path):
    repository = Repository(tmp_path / "clone")
    environment = {**repository.environment, "TINY_SLEEP": "0.1"}

    def start():
        return subprocess.Popen(
            repository.command(*GRID, "hydra/launcher=basic"),
            cwd=repository.path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    processes = [start() for _ in range(4)]
    wait_for(lambda: sum(repository.ran().values()) >= 4)
    for victim in processes[:2]:
        kill_all(victim)
    for process in processes[2:]:
        assert process.wait(timeout=300) == 0, process.stderr.read()[-3000:]
    assert {record["state"] for record in repository.records().values()} == {"done"}
    assert len(repository.records()) == 4
    assert not repository.damaged()


def test_hosts_without_a_common_cache_exchange_results_through_a_remote(tmp_path):
    one, other = Repository(tmp_path / "one"), Repository(tmp_path / "other")
    overrides = ("student=tiny", *GRID[1:], "hydra/launcher=basic", "sweep.remote=store")
    for repository in (one, other):
        repository.run("dvc", "remote", "add", "--local", "store", str(tmp_path / "store"))
        repository.sweep(*overrides)
    assert sum(one.ran().values()) == 13
    assert not other.ran("begin")
    assert {step["how"] for record in other.records().values() for step in record["steps"]} == {"recalled"}


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def kill_all(process):
    """Kill -9 a sweep, its workers and their stages."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
