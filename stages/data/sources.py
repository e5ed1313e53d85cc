"""Read a data set, of whatever kind."""

from __future__ import annotations

import importlib

from stages.data.splits import Source
from stages.schema.data import Data


def load(data: Data) -> Source:
    """Read the data set that the settings name, by the module that its kind names.

    Raises:
        InputError: it cannot be used; one line says why.
    """
    found: Source = importlib.import_module(f"stages.data.{data.module}").load(data)
    return found
