"""Code is found in its revision wherever the project lies in the repository, and however its lines end."""

import hashlib
import subprocess

import pytest

from stages.lineage.revision import Repository

TEXT = b"import os\n\n\nprint(os)\n"


@pytest.fixture(params=["", "ml/tinsmith/"])
def committed(request, tmp_path, monkeypatch):
    """A revision that has `stages/a.py`, as a statement names it, with the project's place in it."""
    place = tmp_path / request.param / "stages"
    place.mkdir(parents=True)
    (place / "a.py").write_bytes(TEXT)
    monkeypatch.chdir(tmp_path / request.param)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "t"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    annotations = {"dirty": []} | ({"directory": request.param} if request.param else {})
    return {"annotations": annotations, "digest": {"gitCommit": head}}


def code(content):
    return {"annotations": {"files": {"stages/a.py": hashlib.sha256(content).hexdigest()}}}


@pytest.mark.parametrize("content", [TEXT, TEXT.replace(b"\n", b"\r\n")])
def test_what_was_committed_is_what_ran(committed, content):
    note, found, unknown = Repository().compare(code(content), committed)
    assert note.startswith("code: 1 of 1 files are those of ")
    assert (found, unknown) == ([], [])


def test_what_was_not_committed_is_named_by_its_place_in_the_repository(committed):
    note, (finding,), _ = Repository().compare(code(TEXT + b"#"), committed)
    assert note.startswith("code: 0 of 1 files")
    assert f"{committed['annotations'].get('directory', '')}stages/a.py at " in str(finding)


def test_what_cannot_be_compared_is_said_with_the_remedy(committed, monkeypatch):
    elsewhere = committed | {"digest": {"gitCommit": "f" * 40}}
    assert Repository().compare(code(TEXT), elsewhere)[2] == [
        "code: revision ffffffffffff is not in a git repository here"
    ]
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (said,) = Repository().compare(code(TEXT), committed)[2]
    assert said.startswith("code: git does not trust this repository; run `git config --global --add safe.directory")
    monkeypatch.setenv("PATH", "")
    assert Repository().compare(code(TEXT), committed)[2][0].endswith("not in a git repository here: there is no git")
