"""Names the first operation of a program whose result leaves the expected band around the reference.

The layers that hold weights are anchors: an operation that reads `encoder.layer.0.output.dense.weight` computes what
the module `encoder.layer.0.output.dense` computes. At each anchor the reference's value replaces the program's, so an
error is charged to the stretch it arose in and not to everything after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from stages.coreml.audit import audited
from stages.coreml.audit_sources import find_source, sanitised
from stages.coreml.dtypes import Array
from stages.coreml.executor import Mode
from stages.coreml.ir import Named, Operation
from stages.coreml.program import Program

_LAYERS = ("linear", "conv", "gather", "layer_norm", "batch_norm")
_PARAMETERS = ("weight", "x", "gamma")


@dataclass(frozen=True)
class Stretch:
    """What ran between two anchors.

    Attributes:
        module: path of the reference module at its end, '' for the outputs.
        operation: MIL type at its end.
        output: name of the tensor compared.
        error: largest difference over the reference's largest magnitude.
        operations: `type output` of everything computed since the previous anchor, this one included.
    """

    module: str
    operation: str
    output: str
    error: float
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Every stretch of a run, in order."""

    stretches: tuple[Stretch, ...]

    def first_beyond(self, band: float) -> Stretch | None:
        """Return the first stretch whose relative error exceeds a band, or is not a number."""
        return next((stretch for stretch in self.stretches if not stretch.error <= band), None)


@dataclass
class _Follower:
    anchors: Mapping[str, str]
    reference: Mapping[str, Array]
    stretches: list[Stretch] = field(default_factory=list)
    since: list[str] = field(default_factory=list)

    def __call__(self, operation: Operation, named: Named, raw: Array, stored: Array) -> Array | None:  # noqa: ARG002
        self.since.append(f"{operation.type} {named.name}")
        module = self.anchors.get(named.name)
        if module is None or self.reference[module].size != stored.size:
            return None
        expected = self.reference[module].reshape(stored.shape).astype(stored.dtype)
        self.close(module, operation.type, named.name, stored, expected)
        return expected

    def close(self, module: str, kind: str, name: str, value: Array, expected: Array) -> None:
        error = relative_error(value, expected)
        self.stretches.append(Stretch(module, kind, name, error, tuple(self.since)))
        self.since.clear()


def relative_error(value: Array, expected: Array) -> float:
    """Largest difference over the expected values' largest magnitude; NaN where either has one."""
    difference = np.abs(value.astype(np.float64) - expected.astype(np.float64))
    largest = float(np.abs(expected).max(initial=0))
    return float(difference.max(initial=0)) / (largest or 1.0)


def compare(
    program: Program,
    inputs: Mapping[str, Array],
    checkpoint: Mapping[str, Array],
    reference: Mapping[str, Array],
    outputs: Mapping[str, Array],
    mode: Mode = "exact",
) -> Comparison:
    """Run a program beside the reference.

    Args:
        program: the artifact.
        inputs: of one run.
        checkpoint: tensors by name.
        reference: output of each module by path, as the reference computed it on the same inputs; a module called
            several times (ALBERT's shared layers) is left out.
        outputs: the reference's outputs by name.
        mode: of the executor.

    Returns:
        The stretches, the last ones ending at the program's outputs.
    """
    follower = _Follower(anchors(program, checkpoint, reference), reference)
    results = program.run(inputs, mode, observe=follower)
    for name, expected in outputs.items():
        follower.close("", "output", name, np.asarray(results[name]), expected)
    return Comparison(tuple(follower.stretches))


def anchors(program: Program, checkpoint: Mapping[str, Array], reference: Mapping[str, Array]) -> dict[str, str]:
    """Map the outputs of layers to the paths of the modules they compute."""
    tensors = {key: np.asarray(value, np.float32) for key, value in checkpoint.items()}
    names = {sanitised(key): key for key in tensors}
    modules = {}
    for name, value in audited(program):
        source = find_source(name, value.astype(np.float32), tensors, names)
        if source is not None and len(source.tensors) == 1 and source.label == source.tensors[0]:
            modules[name] = source.tensors[0].rpartition(".")[0]
    found: dict[str, str] = {}
    for operation in program.function.block.walk():
        for parameter in _PARAMETERS if operation.type in _LAYERS else ():
            (argument,) = operation.inputs.get(parameter, ("",))
            module = modules.get(argument) if isinstance(argument, str) else None
            if module is not None and module in reference and operation.outputs:
                found[operation.outputs[0].name] = module
    return _unrepeated(found)


def _unrepeated(found: dict[str, str]) -> dict[str, str]:
    """Leave out modules that several operations compute: equal weights share a constant, so which is which is lost."""
    paths = list(found.values())
    return {output: path for output, path in found.items() if paths.count(path) == 1}
