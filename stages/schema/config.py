"""The whole of params.yaml, and the rules that span groups."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from stages.core.errors import ConfigError
from stages.core.names import KEY
from stages.core.params import Section
from stages.measure.metric import Split
from stages.schema.clients import Clients
from stages.schema.compression import Compression
from stages.schema.data import Data
from stages.schema.device import Device
from stages.schema.gate import Benchmark, Gate, shortages
from stages.schema.model import Distill, Student, Teacher
from stages.schema.release import Release
from stages.schema.signing import Signing
from stages.schema.task import Task
from stages.schema.transfer import AnyTransfer
from stages.schema.variant import Precision, Target, Variant

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Config(Section):
    """Everything conf/ composes to."""

    task: Task
    data: Data
    teacher: Teacher
    student: Student
    transfer: AnyTransfer
    distill: Distill
    compressions: dict[str, Compression]
    targets: dict[str, Target]
    precisions: dict[str, Precision]
    variants: dict[str, Variant]
    devices: dict[str, Device]
    gate: Gate
    benchmark: Benchmark
    clients: Clients
    release: Release
    signing: Signing
    overrides: list[str]
    """What was asked for beyond conf/ when this was composed."""
    plan: dict[str, Any]
    conf_digest: Sha256
    params_digest: Sha256


def check(config: Config) -> None:
    """Refuse a configuration whose groups do not fit together.

    Raises:
        ConfigError: a key DVC cannot handle, a twin, no thresholds, or so few texts that nothing can meet those of a
            required variant.
    """
    for key in (*config.compressions, *config.precisions, *config.variants):
        if not KEY.fullmatch(key):
            raise ConfigError(f"'{key}' cannot name a stage in DVC", expected="letters, digits, '_' and '-' only")
    for key in config.devices:
        if not KEY.fullmatch(key):
            raise ConfigError(f"'{key}' cannot name a device", expected="letters, digits, '_' and '-' only")
    seen: dict[tuple[str, str, str], str] = {}
    for key, variant in config.variants.items():
        _check_variant(config, key, variant)
        triple = (variant.compression, variant.target, variant.precision)
        if triple in seen:
            raise ConfigError(f"variants '{seen[triple]}' and '{key}' are the same: {' × '.join(triple)}")
        seen[triple] = key


def _check_variant(config: Config, key: str, variant: Variant) -> None:
    if variant.precision not in config.gate.precisions:
        raise ConfigError(f"conf/gate has no thresholds for precision '{variant.precision}' of variant '{key}'")
    short = shortages(config.gate, [variant.precision], _known_sizes(config.data))
    if short and variant.required:
        raise ConfigError(
            f"variant '{key}' is required and can never pass: {short[0]}",
            next_step="raise that size in conf/data, or change the threshold in conf/gate",
        )


def _known_sizes(data: Data) -> dict[Split, int]:
    """Count the texts of the splits whose size stands in conf/ itself; how many a file holds, `prepare` has to say."""
    sizes: dict[Split, int] = {"calibration": data.calibration_size, "probe": data.probe_size}
    known: int | None = getattr(data, "test_size", None)
    return sizes if known is None else sizes | {"test": known}
