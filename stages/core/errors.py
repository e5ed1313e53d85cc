"""The errors a command may end with, each one line: what is wrong, what was expected, what to do next.

TinsmithError
├── ConfigError            conf/ or params.yaml says something that cannot be built
│   ├── StaleParams        params.yaml was composed from another conf/
│   └── Unsupported        a compression, target and precision that do not go together
├── InputError             a data set, checkpoint or tokenizer from outside is unusable
├── ArtifactError          a stage's output directory is missing, incomplete or altered
│   └── ProgramError       a Core ML package holds no program that can be executed as it declares
│       ├── Malformed      it is truncated, contradictory or points outside its own files
│       ├── UnsupportedOp  an operation, attribute or type that the executor has no definition of
│       └── Mismatch       a value whose shape or type is not the declared one
├── ConversionError        a toolchain produced no artifact, or another one than was asked for
├── ReleaseRefused         a required variant has no passing verdict
├── AuditFailed            something in a chain is not what it was recorded as
├── KeyRefused             a signing key cannot be used, or lies where it must not
├── TrackingRefused        the server or database of MLFLOW_TRACKING_URI cannot be used
├── TurnLost               another build took over the database while this one was writing
└── StageFailed            a stage of a sweep's job ended with an error
"""

from __future__ import annotations


class TinsmithError(Exception):
    """A failure the user can act on; `core.cli` prints it as one line and exits 1."""

    def __init__(self, problem: str, *, expected: str = "", next_step: str = "") -> None:
        """Join the three parts of the message.

        Args:
            problem: what is wrong, lower-case, culprits quoted.
            expected: what would have been right, with the valid choices.
            next_step: the command or edit that repairs it.
        """
        parts = [problem]
        if expected:
            parts.append(f"expected {expected}")
        if next_step:
            parts.append(f"next: {next_step}")
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


class ConfigError(TinsmithError):
    """conf/ or params.yaml says something that cannot be built."""


class StaleParams(ConfigError):
    """params.yaml was composed from another conf/ than the one that lies here."""

    def __init__(self, detail: str) -> None:
        """Name the drift; the repair is always the same command."""
        super().__init__(
            f"params.yaml is stale: {detail}",
            expected="the composition of today's conf/",
            next_step="run `python -m stages.compose --keep`, which begins with the overrides that it records",
        )


class Unsupported(ConfigError):
    """A compression, target and precision that do not go together."""


class InputError(TinsmithError):
    """A data set, checkpoint or tokenizer from outside is unusable."""


class ArtifactError(TinsmithError):
    """A stage's output directory is missing, incomplete or altered."""


class ConversionError(TinsmithError):
    """A toolchain produced no artifact, or another one than was asked for."""


class ReleaseRefused(TinsmithError):
    """A required variant has no passing verdict."""


def first_line(error: BaseException) -> str:
    """Return the first line of a toolchain's message, or the error's type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
