"""Find what a protobuf file holds beside the fields that somebody reads.

A reader follows what it knows and never meets the rest: a text in a metadata field, a field of a later version of the
format, bytes behind the last one. So a file is compared with what is left of it when only known fields are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Fields = Mapping[str, Collection[str]]
"""Message type → its fields that are read."""


def strays(message: Any, content: bytes, known: Fields) -> list[str]:
    """Name what a file holds and nobody reads.

    Args:
        message: parsed from `content`; fields that its type does not define are dropped from it.
        content: the bytes of the file, as `SerializeToString(deterministic=True)` wrote them.
        known: fields that are read; of a type that is not listed, none are.

    Returns:
        One line per field, and one where the bytes are not those that the fields make up.
    """
    found = [f"{path} is set, which nothing reads" for path in _unknown(message, known, "")]
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != content:
        found.append(f"of {len(content)} bytes not all belong to a field that the format has")
    return found


def _unknown(message: Any, known: Fields, path: str) -> Iterator[str]:
    fields = known.get(message.DESCRIPTOR.name, ())
    for field, value in message.ListFields():
        place = f"{path}.{field.name}" if path else str(field.name)
        if field.name not in fields:
            if field.message_type is not None or value != field.default_value:
                yield place
        elif field.message_type is not None:
            yield from _inside(field, value, known, place)


def _inside(field: Any, value: Any, known: Fields, place: str) -> Iterator[str]:
    if field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type is not None:
            for key in sorted(value):
                yield from _unknown(value[key], known, f"{place}[{key}]")
    elif hasattr(value, "DESCRIPTOR"):
        yield from _unknown(value, known, place)
    else:
        for position, item in enumerate(value):
            yield from _unknown(item, known, f"{place}[{position}]")
