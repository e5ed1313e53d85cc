"""Faults beside the computation: what names hide, what nobody reads, what stands in another order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stages.injecting.catalogue import Fault, NotApplicable, Subject

WHAT = {
    "exchanged_inputs": "Ids stand where an app that counts inputs finds the mask.",
    "external_data": "A weight lies in a file of its own.",
    "foreign_domain": "An operator of another library, under the name of the one whose place it takes.",
    "local_function": "A function of the file, under the name of the operator whose place it takes, computes another.",
    "second_entry": "The file can also be called in another way.",
    "text": "A field that no runtime reads holds a text.",
    "unread_weight": "A weight that nothing reads.",
    "widened_grid": "The result of a lookup, a tanh or a softmax has integers four times as far apart as it needs.",
}
"""What an editor can do to a file beside its numbers → what that is."""
TEXT = "not for your eyes"
UNKNOWN_FIELD = b"\x8a\xfa\x01" + bytes([len(TEXT)]) + TEXT.encode()
"""Field 4001 of any protobuf message, which parsers keep and do not show; elsewhere just bytes."""


def by_editor(kind: str, meaning: str) -> Fault:
    """Return a fault that an editor puts in by its name."""

    def fault(subject: Subject) -> None:
        if not subject.editor.tamper(kind):
            raise NotApplicable(f"the artifact has nothing for '{kind}'")

    fault.__name__, fault.__doc__ = kind, meaning
    return fault


HIDDEN: dict[str, Fault] = {kind: by_editor(kind, meaning) for kind, meaning in WHAT.items()}


def appended_bytes(artifact: Path) -> None:
    """The largest file goes on behind its end."""
    largest = max((path for path in artifact.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    with largest.open("ab") as stream:
        stream.write(UNKNOWN_FIELD)


def foreign_file(artifact: Path) -> None:
    """A file lies beside those of the model, in its package where it has one."""
    place = next((path for path in artifact.glob("*.mlpackage")), artifact)
    (place / "notes.txt").write_text(TEXT, encoding="utf-8")


BESIDE: dict[str, Callable[[Path], None]] = {fault.__name__: fault for fault in (appended_bytes, foreign_file)}
"""Faults in files and their ends."""
