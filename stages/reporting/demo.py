"""A page in which a released model can be tried: what one shows, and the part `page` of a task that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stages.tasks import registry as tasks


@dataclass(frozen=True)
class Shown:
    """A variant on the page.

    Attributes:
        key: its name.
        model: the file that the page runs.
        facts: what the page says of it and checks it with.
    """

    key: str
    model: Path
    facts: dict[str, Any]


class TaskPage(Protocol):
    """The part `page` of a task, which one has whose models a browser can run.

    Attributes:
        MODULES: what the page runs → where npm puts it.
        NEEDED: what a bundle must have to be shown.
    """

    MODULES: Mapping[str, str]
    NEEDED: str

    def find(self, release: Path) -> list[Shown]:
        """Return the bundles that the page can run, in the order of their names."""

    def render(self, shown: Sequence[Shown], modules: Path) -> str:
        """Return the page as HTML; the same bundles and modules give the same bytes.

        Args:
            shown: at least one variant.
            modules: `node_modules`.
        """


def of_task(task: str) -> TaskPage:
    """Import the page of a task."""
    found: TaskPage = tasks.page(task)
    return found
