"""The revision in a statement is git's, or stated and called so, or the stage does not start."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import attest, cli, revision
from stages.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@localhost")


def git(*arguments):
    done = subprocess.run(["git", *IDENTITY, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def project(place):
    """Write what decides a build into a directory, and go there."""
    for name in ("stages/a.py", "stages/bü ch.py", "conf/config.yaml", "clone/dvc.yaml", "dvc.yaml"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("first\n", encoding="utf-8")
    for name in (".gitattributes", "REVISION"):
        shutil.copy(ROOT / name, place / name)


def commit():
    git("add", "--all", ".")
    git("commit", "--quiet", "--message", "t")
    return git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a project at its top, and the working directory in it."""
    monkeypatch.delenv(revision.VARIABLE, raising=False)
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    return commit()


@pytest.mark.parametrize("directory", ["", "ml/tin smith/"])
def test_what_differs_is_named_as_the_project_names_it_wherever_in_the_repository_it_lies(
    tmp_path, monkeypatch, directory
):
    here = tmp_path / directory
    here.mkdir(parents=True, exist_ok=True)
    project(here)
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    head = commit()
    monkeypatch.chdir(here)
    assert revision.find() == revision.Revision(head, (), directory)
    for name in ("stages/bü ch.py", "stages/new.py", "beside.txt"):
        Path(name).write_text("second\n", encoding="utf-8")
    git("mv", "dvc.yaml", "conf/moved.yaml")
    assert revision.find().dirty == ("conf/moved.yaml", "dvc.yaml", "stages/bü ch.py", "stages/new.py")


def test_a_checkout_that_git_does_not_trust_stops_a_stage_before_its_work(repository, monkeypatch, capsys):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    parser = cli.parser("Work.", "out")
    worked = []
    assert cli.execute(parser, ["--out", "out", "--statement", "s.json"], lambda _: worked.append(1)) == 1
    said = capsys.readouterr().err
    assert worked == []
    assert re.search(
        r"git does not say .*dubious ownership.*; next: run `git config --global --add safe.directory", said
    )
    assert len(said.strip().splitlines()) == 1
    with pytest.raises(InputError, match="dubious ownership"):
        attest.write(Path("s.json"), [], [], attest.datetime.now(attest.UTC))


def test_a_source_archive_states_its_commit_and_a_statement_says_who_said_so(repository, tmp_path, monkeypatch):
    place = tmp_path.parent / f"{tmp_path.name}-archive"
    place.mkdir()
    subprocess.run(f"git archive HEAD | tar x -C '{place}'", shell=True, check=True)
    monkeypatch.chdir(place)
    assert revision.find() == revision.Revision(repository, stated="REVISION")
    revision.require()
    attest.write(Path("s.json"), [], [], attest.datetime.now(attest.UTC))
    depends = json.loads(Path("s.json").read_text(encoding="utf-8"))["predicate"]["buildDefinition"]
    (said,) = [entry for entry in depends["resolvedDependencies"] if entry["name"] == "revision"]
    assert said["digest"] == {"gitCommit": repository}
    assert said["annotations"]["stated"] == "REVISION"


def test_a_copy_without_git_starts_no_stage_until_its_commit_is_stated(tmp_path, monkeypatch):
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(revision.VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"nothing says which revision.*next: export TINSMITH_REVISION"):
        revision.require()
    monkeypatch.setenv(revision.VARIABLE, "a" * 40)
    assert revision.find() == revision.Revision("a" * 40, stated=revision.VARIABLE)
    monkeypatch.setenv(revision.VARIABLE, "v1.0")
    with pytest.raises(InputError, match="TINSMITH_REVISION is 'v1.0'; expected a commit's 40"):
        revision.find()


def test_what_is_stated_does_not_overrule_git(repository, monkeypatch):
    monkeypatch.setenv(revision.VARIABLE, repository)
    assert revision.find() == revision.Revision(repository)
    monkeypatch.setenv(revision.VARIABLE, "b" * 40)
    with pytest.raises(InputError, match=f"TINSMITH_REVISION says b+, git says {repository}"):
        revision.find()


def test_a_copy_inside_another_repository_is_no_part_of_it(repository, tmp_path, monkeypatch):
    copy = tmp_path / "build/copy"
    copy.mkdir(parents=True)
    project(copy)
    monkeypatch.chdir(copy)
    assert revision.find().commit == revision.UNKNOWN


def test_a_repository_without_a_commit_is_told_to_make_one(tmp_path, monkeypatch):
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    with pytest.raises(InputError, match="no commit yet; next: commit what lies here"):
        revision.find()


def test_a_clone_has_the_same_bytes_whatever_git_makes_of_line_ends(repository, tmp_path):
    clone = tmp_path.parent / f"{tmp_path.name}-clone"
    git("clone", "--quiet", "--config", "core.autocrlf=true", "--config", "core.eol=crlf", str(tmp_path), str(clone))
    assert (clone / "stages/a.py").read_bytes() == b"first\n"


def test_no_python_that_dvc_may_start_ends_a_stage_in_a_traceback(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    for module in ("stages.host", "stages.sweep", "stages.compose"):
        done = subprocess.run([bare / "bin/python", "-m", module], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert re.search(r"bare/bin/python' .* lacks numpy, pydantic, yaml; .*source .venv/bin/activate", done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1
    source = (ROOT / "stages/__init__.py").read_text(encoding="ascii")
    ast.parse(source, feature_version=(3, 4))
    program = "import stages; print(stages.QUIET_ENVIRONMENT['DO_NOT_TRACK'])"
    done = subprocess.run([bare / "bin/python", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "true\n"


def test_a_package_that_a_stage_lacks_is_one_line_and_one_of_ours_a_defect(capsys):
    def lacking(name):
        def body(_):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        return body

    assert cli.execute(cli.parser("Doc."), [], lacking("torch.nn")) == 1
    assert "lacks the package 'torch.nn'; next: run `source .venv/bin/activate`" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match=r"stages\.gone"):
        cli.execute(cli.parser("Doc."), [], lacking("stages.gone"))
