"""In which forms clients take a model: what one is, and the module of this package that has those of a target."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from stages.core.names import module_name

if TYPE_CHECKING:
    from stages.bundling.source import Source
    from stages.schema.release import Release

FIFTY = "50 of 50 CLINC150 utterances as in torch"
NOT_ASKED = "not among release.forms"

Client = dict[str, str]


@dataclass(frozen=True)
class Form:
    """One of them.

    Attributes:
        loading: what loads it, for the model card.
        samples: programs in `samples/` that do.
        configured: where the checkpoint's configuration and tokenizer lie beside it, as its clients read them.
        rules_from_file: whether these take the tokenizer's rules from its file alone.
    """

    loading: str
    samples: tuple[str, ...] = ()
    configured: str = ""
    rules_from_file: bool = False


class Forms(Protocol):
    """What a target's module holds.

    Attributes:
        FORMS: all of them by name.
    """

    FORMS: Mapping[str, Form]

    def write(self, source: Source, bundle: Path, settings: Release) -> tuple[dict[str, Any], dict[str, str]]:
        """Write those that are asked for.

        Returns:
            Form → where it lies and what else a client must be told; form → why it was left out.
        """

    def clients(self, form: str, source: Source) -> list[Client]:
        """Return the oldest version of each client that was seen to answer rightly, and how that is known."""


def forms(target: str) -> Forms:
    """Import a target's module."""
    return cast(Forms, importlib.import_module(f"stages.bundling.{module_name(target)}"))


def client(name: str, oldest: str, established: str) -> Client:
    """Say what is known of a client."""
    return {"client": name, "established": established, "oldest_seen_right": oldest}
