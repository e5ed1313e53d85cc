"""From a row of somebody's file to an example, or one line that says which row is wrong and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.core.errors import InputError
from stages.data import labels
from stages.data.splits import Example


def example(where: str, text: Any, *label: Any) -> Example:
    """Check one utterance and its label.

    Args:
        where: file and line, or split and row, for the message.
        text: what stands for the text; must be a string with something in it.
        label: what stands for the label; a name on one printable line, or an integer, which becomes its decimal name.
            Not given where the data have no labels.

    Raises:
        InputError: either is something else.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: text is {_shown(text)}", expected="a non-empty string")
    name = _name(where, *label) if label else None
    try:
        f"{text}{name}".encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: text is {_shown(text)}", expected="valid Unicode without lone surrogates") from None
    return Example(text=text, label=name)


def _name(where: str, label: Any) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(label, str) or not label.strip():
        raise InputError(f"{where}: label is {_shown(label)}", expected="a non-empty string or an integer")
    found = labels.flaw(label)
    if found:
        raise InputError(f"{where}: label {_shown(label)} {found}", expected="one printable line")
    return label


def require_columns(
    present: Sequence[str],
    wanted: Sequence[str],
    where: str,
    next_step: str = "set data.text_column and data.label_column",
) -> None:
    """Check that the named columns exist.

    Raises:
        InputError: names the missing one and those that exist.
    """
    for name in wanted:
        if name not in present:
            raise InputError(
                f"{where} has no column '{name}'",
                expected=f"one of: {', '.join(sorted(present)) or 'nothing, it is empty'}",
                next_step=next_step,
            )


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
