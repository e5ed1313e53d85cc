"""A stage's statement says what its manifest may not, and nothing of the environment beyond a whitelist."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core import artifact, attest

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token-that-must-not-leak"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The statement of a stage that ran as `dvc repro` runs it."""
    out = tmp_path_factory.mktemp("attest")
    command = [sys.executable, "-m", "stages.host", "--out", str(out / "host.json")]
    environment = {**os.environ, "FAKE_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--statement", str(out / "statement.json")], cwd=ROOT, check=True, env=environment)
    return out


@pytest.fixture
def statement(run):
    return json.loads((run / "statement.json").read_text(encoding="utf-8"))


def depends(statement):
    return {entry["name"]: entry for entry in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}


def test_it_is_an_in_toto_statement_with_slsa_provenance_about_the_output(run, statement):
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": (run / "host.json").as_posix(), "digest": {"sha256": artifact.sha256(run / "host.json")}}
    ]
    definition, details = (statement["predicate"][part] for part in ("buildDefinition", "runDetails"))
    assert definition["externalParameters"]["command"][:3] == ["python", "-m", "stages.host"]
    assert definition["internalParameters"]["host"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]


def test_its_code_is_what_the_process_imported_and_one_digest_that_sha256sum_gives_too(statement):
    code = depends(statement)["code"]
    files = code["annotations"]["files"]
    assert {"stages/host.py", "stages/core/attest.py", "stages/core/process.py"} <= set(files)
    assert not any(name.startswith(("stages/models", "tests")) for name in files)
    listing = subprocess.run(["sha256sum", *sorted(files)], cwd=ROOT, capture_output=True, check=True).stdout
    assert code["digest"]["sha256"] == hashlib.sha256(listing).hexdigest()


def test_it_names_the_revision_and_what_was_not_committed(statement):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    revision = depends(statement)["revision"]
    if head.returncode == 0:
        assert revision["digest"]["gitCommit"] == head.stdout.strip()
        assert not any(name.startswith(("build", "dvc.lock", "tests")) for name in revision["annotations"]["dirty"])


def test_nothing_of_the_environment_enters_it_but_what_is_listed(run, statement):
    assert TOKEN not in (run / "statement.json").read_text(encoding="utf-8")
    assert statement["predicate"]["buildDefinition"]["internalParameters"]["environment"] == {"OMP_NUM_THREADS": "1"}


def test_a_directory_is_attested_from_its_manifest_without_reading_its_files_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parent").write_text("p", encoding="utf-8")
    with artifact.writing(Path("out"), stage="s", parents={"data": Path("parent")}) as temporary:
        (temporary / "large.bin").write_text("x", encoding="utf-8")
    Path("out/large.bin").unlink()
    attest.write(Path("statement.json"), [Path("out")], ["python"], attest.datetime.now(attest.UTC))
    written = json.loads(Path("statement.json").read_text(encoding="utf-8"))
    recorded = artifact.manifest(Path("out"))
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in written["subject"]}
    assert subjects == {
        "out/large.bin": recorded["files"]["large.bin"]["sha256"],
        "out/manifest.json": artifact.digest(Path("out")),
    }
    assert depends(written)["data"]["digest"]["sha256"] == recorded["parents"]["data"]
    assert depends(written)["revision"]["digest"]["gitCommit"] == "unknown"


def test_two_runs_of_a_stage_differ_in_the_statement_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digests = []
    for start in ("2026-01-01", "2026-01-02"):
        with artifact.writing(Path("out"), stage="s", parents={}) as temporary:
            (temporary / "a").write_text("a", encoding="utf-8")
        attest.write(Path("statement.json"), [Path("out")], ["python"], attest.datetime.fromisoformat(start))
        digests.append((artifact.digest(Path("out")), artifact.sha256(Path("statement.json"))))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]
