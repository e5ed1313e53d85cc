"""One toy build for all tests of the audit; each gets a copy."""

import os
import shutil
from pathlib import Path

import pytest

from stages.lineage import signing
from tests.toys.audited_build import KEY, enter, ship, write_build


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """The build, its unsigned and its signed bundle, and both keys' names."""
    root = tmp_path_factory.mktemp("audit")
    workspace, key = root / "workspace", root / "key.pem"
    before = Path.cwd()
    enter(workspace)
    try:
        write_build()
        ship(None)
        Path("build/release").rename(root / "unsigned")
        public = signing.generate(key, "ed25519")
        os.environ[signing.VARIABLE] = str(key)
        ship(public)
    finally:
        os.environ.pop(signing.VARIABLE, None)
        os.chdir(before)
    return {"root": root, "workspace": workspace, "key": key, "public": public, "unsigned": root / "unsigned" / KEY}


@pytest.fixture
def workspace(template, tmp_path, monkeypatch):
    """A copy of the build to work in; bundles signed."""
    shutil.copytree(template["workspace"], tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    return tmp_path / "workspace"


@pytest.fixture
def bundle(template, tmp_path, monkeypatch):
    """A signed bundle alone, far from any repository."""
    shutil.copytree(template["workspace"] / "build/release" / KEY, tmp_path / KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path / KEY


@pytest.fixture
def unsigned(template, tmp_path, monkeypatch):
    """An unsigned bundle alone."""
    shutil.copytree(template["unsigned"], tmp_path / KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path / KEY


@pytest.fixture
def chained(tmp_path, monkeypatch):
    """An unsigned bundle of a variant whose compression comes after another, `halved`."""
    monkeypatch.chdir(tmp_path)
    enter(tmp_path / "workspace")
    write_build(after="halved")
    ship(None)
    shutil.copytree(f"build/release/{KEY}", tmp_path / KEY)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("workspace")
    return tmp_path / KEY
