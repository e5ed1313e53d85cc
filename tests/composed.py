"""What conf/ composes to, for tests that take a setting from it."""

import tempfile
from functools import cache
from pathlib import Path

from dvc.utils.hydra import compose_and_dump

from stages.core import params
from stages.schema import overrides

ROOT = Path(__file__).resolve().parent.parent


@cache
def _text(*given):
    with tempfile.TemporaryDirectory() as directory, overrides.complete(whole=True):
        out = Path(directory) / "params.yaml"
        compose_and_dump(str(out), str(ROOT / "conf"), None, "config", str(ROOT), list(given))
        return out.read_text(encoding="utf-8")


def composed(*given):
    """Compose all of conf/ with Hydra overrides, what no variant names too; the tree is the caller's own."""
    return params.parse_yaml(_text(*given))
