"""What can be wrong with a saved Core ML program, each naming the operation, its output and the function."""

from __future__ import annotations

from stages.core.errors import ArtifactError


class ProgramError(ArtifactError):
    """The package does not hold a program that can be executed as it declares."""


class Malformed(ProgramError):
    """Truncated, contradictory or pointing outside its own files."""


class UnsupportedOp(ProgramError):
    """An operation, attribute or type the executor has no definition of."""


class Mismatch(ProgramError):
    """A value whose shape or type is not the declared one, or an input of the wrong shape."""
