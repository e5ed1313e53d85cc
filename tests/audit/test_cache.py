"""A cache object whose bytes changed is named with what it serves, and `dvc repro` makes it again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages import audit
from stages.core import artifact
from stages.lineage import cache, findings, lock
from tests.toys.audited_build import flip

DVC_YAML = """
stages:
  make:
    cmd: mkdir -p out/sub && printf a > out/a && printf b > out/sub/b && printf c > single
    deps: [seed]
    outs: [out, single]
  host:
    cmd: printf d > host
    deps: [seed]
    outs: [{host: {cache: false}}]
"""


def dvc(*arguments):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["dvc", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    place = tmp_path_factory.mktemp("cache")
    before = Path.cwd()
    os.chdir(place)
    try:
        subprocess.run(["git", "init", "--quiet"], check=True)
        dvc("init", "--quiet")
        Path("seed").write_text("1", encoding="utf-8")
        Path("dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
        dvc("repro", "--quiet")
        yield place
    finally:
        os.chdir(before)


def stored(digest):
    return lock.cache_directory() / "files/md5" / digest[:2] / digest[2:]


def test_a_sound_cache_is_intact_and_a_damaged_one_is_repaired(repository, capsys):
    outputs = lock.outputs()
    assert {path: lock.md5(Path(path)) for path in outputs} == {path: out["md5"] for path, out in outputs.items()}
    assert findings.findings(cache.audit(discard=False)) == []

    listing, alone = stored(outputs["out"]["md5"]), stored(outputs["single"]["md5"])
    inside = stored(lock.md5(Path("out/sub/b")))
    flip(inside)
    link = cache.audit(discard=False)
    assert [finding.file for finding in findings.findings(link)] == [str(inside)]
    assert f"{lock.md5(Path('out/sub/b'))} serves out/sub/b" in link.notes

    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes()[:9])  # truncated
    alone.unlink()
    (run,) = [path for path in (lock.cache_directory() / "runs").rglob("*") if path.is_file()]
    run.write_text(run.read_text(encoding="utf-8").replace("printf a", "printf A"), encoding="utf-8")
    link = cache.audit(discard=False)
    files = " ".join(finding.file for finding in findings.findings(link))
    assert all(str(path) in files for path in (listing, inside, alone, run))
    assert f"{outputs['out']['md5']} serves out" in link.notes
    assert any("--cache --discard" in note for note in link.notes)

    assert audit.main(["--cache", "--discard"]) == 1
    assert "to repair: run `dvc repro`" in capsys.readouterr().out
    assert not inside.exists()
    assert "Running stage 'make'" in dvc("repro")
    assert findings.findings(cache.audit(discard=False)) == []
    assert audit.main(["--cache", "--json"]) == 0


MAKE = """
from pathlib import Path
from stages.core import artifact
with artifact.writing(Path("build/made"), stage="make", parents={}) as out:
    (out / "sub").mkdir()
    (out / "sub/model").write_text("weights", encoding="utf-8")
"""


@pytest.mark.parametrize("kind", ["copy", "hardlink", "symlink"])
def test_outputs_are_whole_whatever_dvc_links_them_by(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(audit.__file__).parents[1]))
    subprocess.run(["git", "init", "--quiet"], check=True)
    dvc("init", "--quiet")
    dvc("config", "cache.type", kind)
    Path("make.py").write_text(MAKE, encoding="utf-8")
    Path("dvc.yaml").write_text("stages: {make: {cmd: python make.py, outs: [build/made]}}\n", encoding="utf-8")
    dvc("repro", "--quiet")
    made = Path("build/made")
    assert (made / "sub/model").is_symlink() == (kind == "symlink")
    assert artifact.problems(made) == []
    assert list(lock.differences(lock.outputs(), [made])) == []
    assert findings.findings(audit.audit("build/made", None, offline=False, again=False)) == []
    (made / "linked").symlink_to(tmp_path)
    assert artifact.problems(made) == ["'linked' is a symbolic link"]
    ((_, _, found),) = lock.differences(lock.outputs(), [made])
    assert found.endswith("with a symbolic link in it ('linked')")
