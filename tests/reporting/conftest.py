"""One build for all tests of the report, copied for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.toys.report_build import Build


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Build(tmp_path_factory.mktemp("report") / "build").root


@pytest.fixture
def build(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "build"))
