"""What can be wrong with the place a build is tracked in.

TinsmithError
├── TrackingRefused    the server or database that MLFLOW_TRACKING_URI names cannot be used
└── TurnLost           another build took over while this one was writing
"""

from __future__ import annotations

import re

from stages.core.errors import TinsmithError


class TrackingRefused(TinsmithError):
    """The server or database that MLFLOW_TRACKING_URI names cannot be used."""

    def __init__(self, uri: str, reason: str) -> None:
        """Name the place without its password.

        Args:
            uri: tracking URI.
            reason: why it cannot be used; its first line is kept.
        """
        first = next((line for line in reason.splitlines() if line.strip()), "no reason given")
        super().__init__(
            f"cannot track in '{without_password(uri)}': {without_password(first)[:REASON_LIMIT]}",
            expected="a tracking server that answers (http://, https://) or a database (sqlite:///, postgresql://, …)",
            next_step="start it or correct MLFLOW_TRACKING_URI (unset: mlruns/mlflow.db), then `dvc repro track`",
        )


class TurnLost(TinsmithError):
    """Another build took over while this one was writing."""

    def __init__(self, name: str) -> None:
        """Name the lock; what this build began is deleted by whoever writes it again."""
        super().__init__(
            f"another build took '{name}' after too long a silence of this one",
            next_step="run `dvc repro track` again",
        )


REASON_LIMIT = 300


def without_password(text: str) -> str:
    """Remove `user:password@` from every URL in a text."""
    return re.sub(r"://[^/\s@]*@", "://", text)
