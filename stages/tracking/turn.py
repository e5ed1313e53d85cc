"""One writer at a time on a tracking server, whose clients share no file to lock.

Looking for a fingerprint and creating its run are two requests; two builds that end together would write everything
twice. Of all that MLflow's API creates, a registered model alone is created by one client at most and leaves nothing
behind when it is deleted: it serves as the lock, named for the experiment, in the registry while a build writes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stages.tracking.errors import TurnLost

PAUSE_S = 1.0
# A holder gives a sign of life with every variant, every few seconds; one that is silent for so long was killed.
PATIENCE_S = 120.0


class Turn:
    """The right to write to an experiment.

    Attributes:
        client: `MlflowClient` of the server.
        name: of the registered model that is the lock.
        sign: what the holder last wrote into it.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self.sign = ""

    def wait(self, pause_s: float, patience_s: float) -> None:
        """Take the lock, from its holder too when nothing was heard of it, by our own clock, for `patience_s`."""
        seen, since = None, time.monotonic()
        while not self._create():
            found = self._read()
            if found != seen:
                seen, since = found, time.monotonic()
            elif found and time.monotonic() - since > patience_s:
                self._delete(found)
            time.sleep(pause_s)

    def renew(self) -> None:
        """Give a sign of life.

        Raises:
            TurnLost: somebody took the lock after too long a silence.
        """
        if self._read() != self.sign:
            raise TurnLost(self.name)
        self.sign = _new_sign()
        self.client.update_registered_model(self.name, self.sign)

    def end(self) -> None:
        """Let go."""
        self._delete(self.sign)

    def _create(self) -> bool:
        self.sign = _new_sign()
        return not _refused("RESOURCE_ALREADY_EXISTS", self.client.create_registered_model, self.name, None, self.sign)

    def _read(self) -> str | None:
        found: list[str] = []
        _refused(
            "RESOURCE_DOES_NOT_EXIST", lambda: found.append(self.client.get_registered_model(self.name).description)
        )
        return found[0] if found else None

    def _delete(self, sign: str) -> None:
        if self._read() == sign:
            _refused("RESOURCE_DOES_NOT_EXIST", self.client.delete_registered_model, self.name)


@contextmanager
def turn(client: Any, experiment: str, pause_s: float = PAUSE_S, patience_s: float = PATIENCE_S) -> Iterator[Turn]:
    """Hold an experiment's lock in the block; other experiments are not held up.

    Args:
        client: `MlflowClient` of the server.
        experiment: what is written.
        pause_s: between two looks.
        patience_s: silence after which a holder counts as killed.
    """
    held = Turn(client, f"{experiment.replace('/', '-').replace(':', '-')}.lock")
    held.wait(pause_s, patience_s)
    try:
        yield held
    finally:
        held.end()


def _refused(code: str, request: Any, *arguments: Any) -> bool:
    """Make a request; whether the server refused it for this one reason."""
    from mlflow.exceptions import MlflowException

    try:
        request(*arguments)
    except MlflowException as error:
        if error.error_code != code:
            raise
        return True
    return False


def _new_sign() -> str:
    return f"A build is writing to this experiment ({uuid.uuid4().hex}); this entry goes when it is done."
