"""One command says whether params.yaml and dvc.lock are complete and current, with nothing of build/ here."""

import contextlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages import compose, current

ROOT = Path(__file__).resolve().parent.parent
# One of each kind: a file that another stage reads, a directory read whole, a stage without outputs, parameters, and a
# stage that runs on every repro and stands in a file of its own.
PIPELINE = """
stages:
  make:
    cmd: mkdir -p build/parts && echo a > build/parts/one && echo b > build/two
    deps: [code.txt]
    params: [task]
    outs: [build/parts/one, build/two]
  read:
    cmd: cat build/parts/one > build/read
    deps: [build/parts, build/two, ../outside]
    outs: [build/read]
  end:
    cmd: echo end
    deps: [build/told]
"""
ALWAYS = """
stages:
  tell:
    wdir: ..
    cmd: echo told > build/told
    always_changed: true
    deps: [build/read]
    outs: [build/told: {cache: false}]
"""
SHORTER = ("task.max_length=16", "task.sequence_lengths=[8,16]")
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@localhost")


class Clone:
    def __init__(self, path):
        self.path = path

    def run(self, *command):
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True)

    def dvc(self, *command):
        done = self.run(sys.executable, "-m", "dvc", *command)
        assert done.returncode == 0, done.stderr
        return done

    def current(self):
        """Ask in this process: the command's start takes longer than its answer."""
        said = io.StringIO()
        with contextlib.chdir(self.path), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = current.main([])
        assert len(said.getvalue().strip().splitlines()) == 1, said.getvalue()
        return code, said.getvalue()

    def write(self, name, text):
        (self.path / name).write_text(text, encoding="utf-8")

    def edit(self, name, before, after):
        text = (self.path / name).read_text(encoding="utf-8")
        assert before in text
        self.write(name, text.replace(before, after, 1))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repository with a small pipeline under our conf/, built and committed."""
    path = tmp_path_factory.mktemp("current") / "project"
    for name in ("conf", "stages", "hydra_plugins", ".dvc"):
        ignore = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
        shutil.copytree(ROOT / name, path / name, ignore=ignore)
    shutil.copy(ROOT / ".gitignore", path)
    clone = Clone(path)
    clone.write("dvc.yaml", PIPELINE)
    (path / "clone").mkdir()
    clone.write("clone/dvc.yaml", ALWAYS)
    clone.write("code.txt", "1\n")
    clone.write("../outside", "data\n")
    shutil.copy(ROOT / "params.yaml", path)
    clone.run("git", "init", "--quiet")
    clone.dvc("repro", "--quiet")
    clone.run("git", "add", "--all")
    assert clone.run("git", *IDENTITY, "commit", "--quiet", "--message", "t").returncode == 0
    return clone


@pytest.fixture
def clone(built, tmp_path):
    """A fresh clone: no build/, no cache."""
    shutil.copy(built.path.parent / "outside", tmp_path)
    assert built.run("git", "clone", "--quiet", str(built.path), str(tmp_path / "clone")).returncode == 0
    return Clone(tmp_path / "clone")


def test_a_build_and_a_fresh_clone_of_it_are_current_where_dvc_never_is(built, clone):
    assert built.run(sys.executable, "-m", "dvc", "status", "--quiet").returncode == 1
    said = "params.yaml and dvc.lock are complete and current: 4 stages\n"
    assert built.current() == (0, said)
    done = clone.run(sys.executable, "-m", "stages.current")
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert not (clone.path / "build").exists()


def test_what_is_not_here_is_not_compared_and_said_so(clone):
    (clone.path.parent / "outside").unlink()
    assert clone.current() == (
        0,
        "params.yaml and dvc.lock are complete and current: 4 stages; not here, so not compared: ../outside\n",
    )


def without(name, stage):
    def change(clone):
        lock = yaml.safe_load((clone.path / name).read_text(encoding="utf-8"))
        del lock["stages"][stage]
        clone.write(name, yaml.safe_dump(lock))

    return change


def other_output(name, **change):
    def edit(clone):
        lock = yaml.safe_load((clone.path / "dvc.lock").read_text(encoding="utf-8"))
        (entry,) = [out for out in lock["stages"]["make"]["outs"] if out["path"] == name]
        entry.update(change)
        clone.write("dvc.lock", yaml.safe_dump(lock))

    return edit


def composed_otherwise(clone):
    with contextlib.chdir(ROOT):  # whose conf/ is the same
        assert compose.main([*SHORTER, "--params", str(clone.path / "params.yaml")]) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.edit("conf/task/classify.yaml", "#", "# a comment"), "params.yaml is stale: conf/ has changed"),
        (lambda c: c.edit("params.yaml", "seed: 1", "seed: 2"), "params.yaml is stale: it was edited by hand"),
        (composed_otherwise, "'make' has changed: 'task' in params.yaml"),
        (lambda c: c.write("code.txt", "2\n"), "'make' has changed: 'code.txt'"),
        (lambda c: c.write("../outside", "other\n"), "'read' has changed: '../outside'"),
        (lambda c: c.edit("dvc.yaml", "cat build", "cat  build"), "'read' has changed: its command"),
        (lambda c: (c.path / "dvc.lock").unlink(), "there is no dvc.lock; next: run `dvc repro`, then commit it"),
        (lambda c: (c.path / "clone/dvc.lock").unlink(), "there is no clone/dvc.lock; next: run `dvc repro`, then"),
        (without("dvc.lock", "make"), "'make' has changed: dvc.lock does not have it (and 1 more stages)"),
        (without("clone/dvc.lock", "tell"), "'clone/dvc.yaml:tell' has changed: clone/dvc.lock does not have it"),
        (other_output("build/two", md5="0" * 32), "'read' has changed: 'build/two'"),
        (other_output("build/parts/one", size=99), "'read' has changed: 'build/parts'"),
    ],
)
def test_anything_that_would_run_again_is_named(clone, change, said):
    change(clone)
    code, line = clone.current()
    assert code == 1
    assert said in line
    assert "; next: run `" in line
