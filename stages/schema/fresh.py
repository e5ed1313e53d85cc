"""Whether params.yaml is what today's conf/ composes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.core.errors import StaleParams
from stages.schema.plan import conf_digest, params_digest


def check_fresh(tree: dict[str, Any], conf: Path) -> None:
    """Refuse a params.yaml that another conf/ composed, or that was edited by hand: a loosened gate, say.

    Raises:
        StaleParams: names the repairing command.
    """
    if tree.get("conf_digest") != conf_digest(conf):
        raise StaleParams("conf/ has changed since it was composed")
    if tree.get("params_digest") != params_digest(tree):
        raise StaleParams("it was edited by hand")
