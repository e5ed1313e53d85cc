"""The kinds of data set: one line each, keyed by `data.kind`."""

from __future__ import annotations

from stages.data import clinc150, embedded, files, hub, text
from stages.data.splits import Source
from stages.schema.data import Clinc150, Csv, Data, Embedded, Hub, JsonLines, Text


def load(data: Data) -> Source:
    """Read the data set that the settings name.

    Raises:
        InputError: it cannot be used; one line says why.
    """
    match data:
        case Embedded():
            return embedded.load(data)
        case Clinc150():
            return clinc150.load(data)
        case JsonLines() | Csv():
            return files.load(data)
        case Hub():
            return hub.load(data)
        case Text():
            return text.load(data)
