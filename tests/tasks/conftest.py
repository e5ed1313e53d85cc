"""A task that is no part of the project, put beside those of stages/tasks, and one language model's build for all."""

import pytest

from stages import tasks
from stages.core.closure import ROOT
from tests.toys import language_build

TOY = ROOT / "tests/toys/tasks"


@pytest.fixture(scope="session")
def given(tmp_path_factory):
    """A random LLaMA from outside."""
    return language_build.llama(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="session")
def build(given, tmp_path_factory):
    """What the stages make of it, data to converted model."""
    return language_build.make(given, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module", autouse=True)
def _toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "__path__", [*tasks.__path__, str(TOY)])
        yield
