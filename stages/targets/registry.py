"""What the parts of a target offer, and how to find one by the target's name; nothing else knows where they lie.

What all targets' parts have in common is said here; their own docstrings say what is their own. A part is a module of
the target's package, imported when it is asked for and without the others: `running.worker` times a
runtime in a process that must hold no toolchain.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.core.names import module_name

if TYPE_CHECKING:
    from stages.measure.structure import Graph
    from stages.schema.task import Task
    from stages.schema.variant import Precision
    from stages.targets.base import Inputs, Session


class Convert(Protocol):
    """Brings a checkpoint into the platform's format."""

    def convert(self, checkpoint: Path, task: Task, target: Any, out: Path) -> None:
        """Write the platform's files and `signature.json`.

        Args:
            checkpoint: output of `compress`.
            task: lengths to serve.
            target: the target's own section of `schema.variant.Target`.
            out: an empty directory.

        Raises:
            ConversionError: the toolchain cannot express the model, or wrote another.
        """


class Quantize(Protocol):
    """Lowers a converted model to a precision."""

    def quantize(
        self, converted: Path, precision: Precision, calibration: Mapping[str, NDArray[Any]], target: Any, out: Path
    ) -> dict[str, Any]:
        """Write the artifact, and return what `quantization.json` says of it.

        Args:
            converted: output of `convert`.
            precision: one that the target supports.
            calibration: `input_ids` and `attention_mask`, int32 [n, max_length], right-padded.
            target: the target's own section of `schema.variant.Target`.
            out: an empty directory.

        Raises:
            ConversionError: something was left at another precision than asked.
            Unsupported: the target cannot be lowered to it.
        """


class Runtimes(Protocol):
    """Executes artifacts."""

    def available(self) -> str | None:
        """Return None where artifacts can be executed, else the reason they cannot be here."""

    def timing_unavailable(self) -> str | None:
        """Return None where a latency measured here means something, else the reason it does not."""

    def versions(self) -> dict[str, str]:
        """Return what executes artifacts here, as it says of itself: distribution → version."""

    def saturation(self, artifact: Path, split: Mapping[str, NDArray[np.int32]]) -> dict[str, int]:
        """Count the `sums` over a split and those `clipped` on some CPUs alone; empty where none are known to be."""

    def open_runtime(self, artifact: Path, threads: int) -> Session:
        """Open an artifact, or a converted model, on `threads` cores.

        Raises:
            ArtifactError: it is missing or damaged.
        """


class Weights(Protocol):
    """Reads what an artifact stores, on any host."""

    def weights(self, artifact: Path) -> dict[str, NDArray[np.float32]]:
        """Return every weight by its name, decompressed."""

    def reach(self, value: NDArray[np.float32], granularity: str) -> NDArray[np.float32]:
        """Return the largest magnitude that each scale of a weight has to cover.

        Args:
            value: [out, in].
            granularity: `tensor`, `channel` or `block_32`.

        Returns:
            fp32, to be broadcast to `value`.
        """


class Structure(Protocol):
    """Reads what an artifact computes."""

    def read(self, artifact: Path) -> Graph:
        """Return the computation with quantisation taken away."""


class Whole(Protocol):
    """Knows everything a model's files may hold.

    Attributes:
        FILES: names of what `quantize` writes.
        CONVERTED: names of what `convert` writes.
    """

    FILES: Collection[str]
    CONVERTED: Collection[str]

    def strays(self, converted: Path, artifact: Path) -> list[str]:
        """Name what lies in both models' files and `structure` does not read."""


class Lookup(Protocol):
    """Asks the runtime for vectors of token ids."""

    def looked_up(self, converted: Path, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the vectors that the runtime looks up for ids [n]: fp32 [n, width].

        Raises:
            ArtifactError: ids take part in anything but that lookup.
        """


class Intermediates(Protocol):
    """Runs an artifact operator by operator."""

    def intermediates(self, artifact: Path, inputs: Inputs) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
        """Yield operator, tensor and value, dequantised, in the order of the computation."""


def _part(name: str, target: str) -> Any:
    return importlib.import_module(f"stages.targets.{module_name(target)}.{name}")


# A target's name → its part.
convert: Callable[[str], Convert] = partial(_part, "convert")
quantize: Callable[[str], Quantize] = partial(_part, "quantize")
runtime: Callable[[str], Runtimes] = partial(_part, "runtime")
weights: Callable[[str], Weights] = partial(_part, "weights")
structure: Callable[[str], Structure] = partial(_part, "structure")
whole: Callable[[str], Whole] = partial(_part, "whole")
lookup: Callable[[str], Lookup] = partial(_part, "lookup")
intermediates: Callable[[str], Intermediates] = partial(_part, "intermediates")
