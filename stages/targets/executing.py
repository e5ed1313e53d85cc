"""What executed an artifact, as the loaded library itself says, beside what the lock says.

The metadata of an environment names what was installed; another copy on Python's path is what runs.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from stages.core.errors import InputError

PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#]+)", re.MULTILINE)
ELSEWHERE = "beside the installed one"


def loaded(distribution: str, package: str, version: str = "") -> str:
    """Return the version of a library as it is imported here.

    Args:
        distribution: its name in the lock.
        package: its name in Python.
        version: what its own code answers; `__version__` by default.

    Returns:
        The version; where the package does not lie where its distribution was installed, that is said too, so that
        it is no version of any lock.
    """
    module = importlib.import_module(package)
    version = version or str(module.__version__)
    try:
        installed = Path(str(metadata.distribution(distribution).locate_file(package)))
    except metadata.PackageNotFoundError:
        return f"{version} ({ELSEWHERE})"
    here = Path(str(module.__file__)).resolve().parent
    return version if here == installed.resolve() else f"{version} ({ELSEWHERE})"


def pins(constraints: Path) -> dict[str, str]:
    """Return distribution → version of a lock, names in lower case with dashes.

    Raises:
        InputError: it is missing.
    """
    try:
        found = PIN.findall(constraints.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the lock '{constraints}': {error}", next_step="restore it from git") from error
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in found}


def foreign(versions: Mapping[str, Mapping[str, str]], locked: Mapping[str, str]) -> list[str]:
    """Say where an artifact ran on something else than the lock names; nothing of what the lock does not name.

    Args:
        versions: stage that ran it → distribution → version, as the stage recorded them.
        locked: what `pins` returns.
    """
    unnamed = [f"{stage} does not say what it ran on; run it again" for stage, found in versions.items() if not found]
    return unnamed + [
        f"{stage} ran on {name} {version}, the lock has {locked[name]}; install that (`make`) and measure again"
        for stage, found in versions.items()
        for name, version in sorted(found.items())
        if name in locked and version != locked[name]
    ]
