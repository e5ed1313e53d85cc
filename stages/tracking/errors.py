"""What can be wrong with the place a build is tracked in.

TinsmithError
├── TrackingRefused    the server or database that MLFLOW_TRACKING_URI names cannot be used
└── TurnLost           another build took over while this one was writing
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from stages.core.errors import TinsmithError

REASON_LIMIT = 300
LATER = "TINSMITH_TRACKING"
EXPECTED = "a tracking server that answers (http://, https://) or a database (sqlite:///, postgresql://, …)"
CORRECT = "start it or correct MLFLOW_TRACKING_URI (unset: mlruns/mlflow.db)"
# What a database or server says of itself → what helps. The first that fits counts.
ADVICE = {
    r"error code 401|401 client error|unauthori[sz]ed|not authenticated|authentication failed": (
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    ),
    r"error code 403|403 client error|forbidden": "ask its owner for the right to write to this experiment",
    r"error code (404|501)|404 client error|not implemented": (
        "name the root of an MLflow 3 server: this one lacks the request"
    ),
    r"error code 5\d\d|5\d\d server error": "look into the server's own log",
    r"disk is full|no space left|quota": "make room where it lies",
    r"database( table)? is locked": "end what holds it (another MLflow process, or a copy under way)",
    r"readonly|read-only|permission denied": "make the file and its directory writable",
    r"out-of-date database schema|can't locate revision": (
        "its tables are of another MLflow: back it up, then `mlflow db upgrade` with the newer of the two versions"
    ),
    r"not a database|malformed|disk i/o error|already exists|no such table": (
        "move the damaged file away: the build is written again to a new one"
    ),
}


class TrackingRefused(TinsmithError):
    """The server or database that MLFLOW_TRACKING_URI names cannot be used."""

    def __init__(self, uri: str, reason: str, advice: str = "") -> None:
        """Name the place without its password.

        Args:
            uri: tracking URI.
            reason: why it cannot be used; its first line is kept.
            advice: what helps; by default what fits the reason.
        """
        first = next((line for line in reason.splitlines() if line.strip()), "no reason given")
        self.reason = without_password(without_driver(first))[:REASON_LIMIT]
        known = advice or next((said for form, said in ADVICE.items() if re.search(form, first, re.I)), "")
        super().__init__(
            f"cannot track in '{without_password(uri)}': {self.reason}",
            expected="" if known else EXPECTED,
            next_step=f"{known or CORRECT}, then `dvc repro` ({LATER}=later releases before it is mended)",
        )


class TurnLost(TinsmithError):
    """Another build took over while this one was writing."""

    def __init__(self, name: str) -> None:
        """Name the lock; what this build began is deleted by whoever writes it again."""
        super().__init__(
            f"another build took '{name}' after too long a silence of this one",
            next_step="run `dvc repro` again",
        )


@contextmanager
def refusals(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises about a place into one line.

    Raises:
        TrackingRefused: the server or database cannot be used.
    """
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        raise TrackingRefused(uri, error.message) from error
    except (CommandError, RequestException, SQLAlchemyError) as error:
        raise TrackingRefused(uri, str(error)) from error
    except ModuleNotFoundError as error:
        raise TrackingRefused(uri, f"its database driver is not installed ({error})", "install it") from error


def without_password(text: str) -> str:
    """Remove `user:password@` from every URL in a text."""
    return re.sub(r"://[^/\s@]*@", "://", text)


def without_driver(text: str) -> str:
    """Remove the classes that a driver's error begins with: `(sqlite3.OperationalError) database is locked`."""
    return re.sub(r"^(?:\([\w.]+\) )+", "", text)
