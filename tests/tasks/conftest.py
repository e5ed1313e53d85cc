"""A task that is no part of the project: a folder of parts, put beside those of stages/tasks."""

from pathlib import Path

import pytest

from stages import tasks

TOY = Path(__file__).parent / "toy"


@pytest.fixture(scope="module", autouse=True)
def _toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "__path__", [*tasks.__path__, str(TOY)])
        yield
