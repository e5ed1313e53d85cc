"""What was asked for stays asked for, in `dvc exp run` too, and what fits nothing says what was meant."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages import compose
from stages.core.errors import ConfigError
from stages.schema import advice, overrides
from tests.composed import composed

ROOT = Path(__file__).resolve().parent.parent
COPIED = (".dvc/.gitignore", ".dvc/config", ".gitattributes", ".gitignore", "conf", "constraints.txt", "dvc.yaml")
COPIED += ("hydra_plugins", "stages")
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@localhost")


class Project:
    """A git repository that can compose and queue, and that nobody builds."""

    def __init__(self, path):
        self.path = path
        for name in COPIED:
            source = ROOT / name
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, path / name, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))
        shutil.copy(ROOT / "params.yaml", path)
        self.run("git", "init", "--quiet")
        self.commit()

    def run(self, *command):
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done

    def compose(self, *arguments):
        """Compose in this process: its conf/ is this repository's, and a command's start costs more than composing."""
        place = self.path if "--check" in arguments else ROOT
        with contextlib.chdir(place), contextlib.redirect_stderr(io.StringIO()) as said:
            code = compose.main([*arguments, "--params", str(self.path / "params.yaml")])
        return subprocess.CompletedProcess(arguments, code, stderr=said.getvalue())

    def commit(self):
        self.run("git", "add", "--all")
        assert self.run("git", *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "t").returncode == 0

    def queue(self, *settings):
        """Queue an experiment; what DVC said and the parameters that it would build with."""
        done = self.run(sys.executable, "-m", "dvc", "exp", "run", "--queue", *(f"--set-param={s}" for s in settings))
        shown = self.run("git", "show", "refs/exps/celery/stash:params.yaml")
        return done, yaml.safe_load(shown.stdout) if done.returncode == 0 else None

    def params(self):
        return yaml.safe_load((self.path / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A project for what is refused, and so changes nothing."""
    project = Project(tmp_path_factory.mktemp("untouched") / "project")
    yield project
    assert project.run("git", "status", "--short").stdout == ""


def test_an_experiment_begins_with_what_composing_had_set_and_says_so(project):
    assert project.compose("data.seed=7", "student=none", "data.licence='a=b ${task.name}'").returncode == 0
    project.commit()
    done, queued = project.queue("distill.temperature=3", "student=tiny")
    assert queued["data"]["seed"] == 7
    assert queued["student"]["kind"] == "shape"
    assert queued["overrides"] == [
        "data.seed=7",
        "data.licence='a=b ${task.name}'",
        "distill.temperature=3",
        "student=tiny",
    ]
    assert "params.yaml keeps data.seed=7" in done.stderr
    assert "student=none" not in done.stderr
    assert project.params()["overrides"] == ["data.seed=7", "student=none", "data.licence='a=b ${task.name}'"]


def test_an_experiment_stops_where_it_would_lose_what_was_edited_by_hand(project):
    path = project.path / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed: 1", "seed: 7", 1), encoding="utf-8")
    done, _ = project.queue("distill.temperature=3")
    assert done.returncode != 0
    assert "'params.yaml' was edited by hand, and composing it anew would lose that" in done.stderr
    assert "seed: 7" in path.read_text(encoding="utf-8")


def test_an_experiment_is_told_what_a_key_was_meant_to_be(untouched):
    done, _ = untouched.queue("distill.epochs=3")
    assert done.stderr.count("conf/ has no key 'distill.epochs'; expected 'distill.training.epochs'") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("distill.epochs=3,4", "conf/ has no key 'distill.epochs'; expected 'distill.training.epochs'"),
        ("student=tiny,tinny", "conf/student has no 'tinny'"),
        ("data.licence=a=b", "write \"data.licence='a=b'\""),
    ],
)
def test_a_sweep_is_told_so_too(untouched, given, said):
    done = untouched.run(sys.executable, "-m", "stages.sweep", given, "target=onnx-cpu", "precision=fp32")
    assert done.returncode == 1
    assert said in done.stderr
    assert "To append to your config" not in done.stderr


def test_what_lies_beside_the_repository_lies_beside_a_queued_experiment_too(project):
    beside = project.path.parent / "shared"
    beside.mkdir()
    project.queue("experiment=clinc150")
    for place in (".dvc/tmp/exps", ".dvc/tmp/exps/standalone"):
        assert (project.path / place / "job" / "../shared").resolve() == beside
    assert project.run("git", "status", "--short").stdout == ""


def test_a_path_that_is_not_beside_a_queued_experiment_says_where_it_was_sought(project, monkeypatch):
    project.compose("data=clinc150", "data.path=nowhere")
    monkeypatch.setenv("DVC_ROOT", str(project.path.parent))
    done = project.compose("--check", "build/checked.json")
    assert f"'nowhere' does not exist from '{project.path}', where DVC runs this experiment" in done.stderr


def test_composing_anew_says_what_it_drops_and_keeps_it_where_asked(project):
    project.compose("data.seed=7", "student=none")
    done = project.compose("--keep", "data.seed=8")
    assert (done.stderr, project.params()["overrides"]) == ("", ["student=none", "data.seed=8"])
    assert project.compose("data.seed=9").stderr == "no longer set: student=none (`--keep` keeps it)\n"
    assert project.params()["overrides"] == ["data.seed=9"]


def test_two_branches_are_merged_by_composing_not_by_lines(project):
    project.run("git", "checkout", "--quiet", "-b", "theirs")
    assert project.compose("data.seed=7", "distill.temperature=3").returncode == 0
    project.commit()
    project.run("git", "checkout", "--quiet", "-")
    assert project.compose("student=none").returncode == 0
    project.commit()
    merged = project.run("git", *IDENTITY, "merge", "theirs")
    assert "CONFLICT" in merged.stdout
    assert project.params()["overrides"] == ["student=none"]
    assert project.compose("--keep", "data.seed=7", "distill.temperature=3").returncode == 0
    assert project.compose("--check", "build/checked.json").returncode == 0
    assert project.params()["overrides"] == ["student=none", "data.seed=7", "distill.temperature=3"]


def test_a_broken_params_file_is_composed_anew_and_nothing_is_kept_of_it(project):
    (project.path / "params.yaml").write_text("<<<<<<< ours\n", encoding="utf-8")
    done = project.compose("--keep", "data.seed=7")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "params.yaml' is not a mapping; next: run `python -m stages.compose`" in done.stderr
    assert project.compose("data.seed=7").returncode == 0
    assert project.params()["data"]["seed"] == 7


def test_of_two_overrides_of_a_key_the_last_counts():
    assert overrides.join(["a=1", "b=2", "+c=3"], ["a=4", "c=5"]) == ["b=2", "+c=3", "a=4", "c=5"]


ODD = ("a=b", "a#b", "dä/x", "x(1)", "[a", "it's", 'say "a=b"', "a,b", "{a", "日本", "c:\\a=b", "a;b", "'a", "a'=")


@pytest.mark.parametrize("value", ODD)
def test_a_value_that_cannot_be_read_comes_back_in_the_quotes_it_needs(value):
    with pytest.raises(ConfigError, match=r"(cannot be read as it stands|choice of several values).*") as caught:
        overrides.parsed([f"data.path={value}"])
    typed = re.search(r"(?:next: write|or one text,) (.*?)(?:; next.*)?$", str(caught.value)).group(1)
    shell = subprocess.run(["bash", "-c", f"printf %s {typed}"], capture_output=True, text=True, check=True)
    (override,) = overrides.parsed([shell.stdout])
    assert " ".join(str(override.value()).split()) == " ".join(value.split())


@pytest.mark.parametrize("override", ["=3", "data.seed", "data.seed:7", "+=1"])
def test_what_sets_nothing_is_no_override(override):
    with pytest.raises(ConfigError, match=r"sets nothing; expected KEY=VALUE"):
        overrides.parsed([override])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "teacher.path=x",
            "is a key of teacher=checkpoint or teacher=clinc150 or teacher=clinc150-minilm or teacher=finetune, "
            "which is not chosen",
        ),
        ("data.train=x", "or `data=csv data.train=…`"),
        ("distill.epochs=3", "no key 'distill.epochs'; expected 'distill.training.epochs'"),
        ("distill={epochs: 3}", "no key 'distill.epochs'; expected 'distill.training.epochs'"),
        ("student.training.epochs=3", "expected 'teacher.training.epochs' or 'distill.training.epochs'"),
        ("teacher.training.epoch=3", "expected 'teacher.training.epochs'"),
        ("max_length=8", "expected 'task.max_length'"),
        ("tacher=checkpoint", "no key 'tacher'; expected 'teacher'"),
        ("pruned.ffn_fraction=0.2", "expected 'compressions.pruned.ffn_fraction'"),
        ("compression.pruned.ffn_fraction=0.2", "expected 'compressions.pruned.ffn_fraction'"),
        ("variant.onnx-cpu-fp32.required=false", "expected 'variants.onnx-cpu-fp32.required'"),
        ("variants.onnx-cpu-fp16.required=false", "expected 'onnx-cpu-fp16' in the list `variant=[…]`"),
        (
            "student=tinny",
            "conf/student has no 'tinny'; expected one of: clinc150, generate, none, small, tiny (nearest: tiny)",
        ),
        ("student=5", "conf/student has no '5'"),
        ("variant=[onnx-cpu-fp33]", "conf/variant has no 'onnx-cpu-fp33'"),
        ("data=[jsonl,csv]", "one option of 'data' is chosen"),
        ("data=jsonl,csv", "use `python -m stages.sweep`"),
        ("+student=tiny", "group 'student' is always there, once"),
        ("~data", "group 'data' is always there, once"),
        ("data@x=embedded", "'data@x=embedded' cannot be set"),
        ("experiment=null", "conf/experiment has no 'None'"),
        ("teacher.kind=checkpoint", "'teacher.kind' follows from what is chosen"),
        ("hydra.run.dir=x", "'hydra.run.dir=x' cannot be set; expected a key of conf/ that a build reads"),
        ("plan.baseline=x", "'plan.baseline=x' cannot be set"),
        ("overrides=[]", "'overrides=[]' cannot be set"),
        ("precision=fp32", "to build fewer variants, choose them: `variant=[…]`"),
    ],
)
def test_an_override_that_fits_nothing_names_the_nearest_that_does(given, said):
    """What composing says where Hydra refuses; the command itself is asked by the tests of composing."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        parsed = overrides.parsed([given])
        advice.check(parsed, ROOT / "conf", composed(*advice.sound(parsed, ROOT / "conf")))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("teacher.path=x", "is a key of teacher=checkpoint or "),
        ("distill={epochs: 3}", "expected 'distill.training.epochs'"),
        ("teacher.kind=checkpoint", "follows from what is chosen"),
        ("student=5", "conf/student has no '5'"),
        ("student.heads=5", "'student': 5 heads do not divide hidden_size 64"),
        ("student.layers=abc", "'student.layers' is 'abc'; expected: input should be a valid integer"),
    ],
)
def test_composing_refuses_what_fits_nothing_and_writes_nothing(given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=re.escape(said)):
        compose.compose([given], tmp_path / "params.yaml")
    assert list(tmp_path.iterdir()) == []
