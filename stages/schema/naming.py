"""What a variant's name says, so that one which is only its name needs no file in conf/variant.

`TARGET-PRECISION` is the student as it is, `TARGET-COMPRESSION-PRECISION` a compression of it: of every target,
compression and precision that conf/ has. A file of the same name says otherwise.
"""

from __future__ import annotations

from pathlib import Path

RULE = "TARGET-PRECISION or TARGET-COMPRESSION-PRECISION of what conf/ has, or the name of a file in conf/variant"


def options(conf: Path, group: str) -> list[str]:
    """Return the options of a group that have a file."""
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def variant_name(target: str, compression: str, precision: str) -> str:
    """Return the name that says all three; `none` goes without saying."""
    return "-".join([target, precision] if compression == "none" else [target, compression, precision])


def variants(conf: Path) -> dict[str, dict[str, str]]:
    """Return what every name that the rule gives says: `compression`, `target`, `precision`."""
    return {
        variant_name(target, compression, precision): {
            "compression": compression,
            "target": target,
            "precision": precision,
        }
        for target in options(conf, "target")
        for compression in options(conf, "compression")
        for precision in options(conf, "precision")
    }
