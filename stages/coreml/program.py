"""A saved Core ML program that runs on any host: `open_program(package).run(inputs)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.coreml import proto
from stages.coreml.dtypes import Array
from stages.coreml.errors import Malformed, Mismatch
from stages.coreml.executor import MODES, Mode, Observer, Run, State, keep_freed_memory, to_half
from stages.coreml.inplace import in_place
from stages.coreml.interface import read_inputs
from stages.coreml.ir import Function, read_function
from stages.coreml.plan import Known, Plan, plan
from stages.coreml.values import Constants, StateType, TensorType


class Program:
    """One function of a package; weights are decompressed once, when it is opened."""

    def __init__(self, function: Function, features: Mapping[str, Any], functions: tuple[str, ...]) -> None:
        """Plan a function.

        Args:
            function: the function to run.
            features: the description of each input by name.
            functions: names of all functions of the package.
        """
        self.function = function
        self.functions = functions
        self.inputs = read_inputs(function, features)
        self.plan, self.known = _planned(function)
        self.states = {item.name: item.type.tensor for item in function.inputs if isinstance(item.type, StateType)}
        keep_freed_memory()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.function.block.outputs

    def until(self, name: str) -> Program:
        """Return the program that ends with the operation which makes a value, and gives out that alone."""
        block = self.function.block
        last = next(at for at, one in enumerate(block.operations) if name in [item.name for item in one.outputs])
        part = copy(self)
        shorter = replace(block, operations=block.operations[: last + 1], outputs=(name,))
        part.function = replace(self.function, block=shorter)
        part.plan, part.known = _planned(part.function)
        return part

    def make_state(self) -> State:
        """Return zeroed states, to be passed to consecutive calls of `run`, which updates them."""
        found = {}
        for name, kind in self.states.items():
            if kind.fixed is None:
                raise Mismatch(f"state '{name}' of type '{kind}'", expected="a fixed shape")
            found[name] = np.zeros(kind.fixed, kind.dtype.carrier)
        return found

    def run(
        self,
        inputs: Mapping[str, Array],
        mode: Mode = "declared",
        *,
        state: State | None = None,
        observe: Observer | None = None,
    ) -> dict[str, Any]:
        """Execute once.

        Args:
            inputs: one array per input, of an accepted shape.
            mode: how fp16 tensors round, see `executor`.
            state: for stateful programs, from `make_state`; updated.
            observe: called with every tensor that is made.

        Returns:
            Outputs by name in their declared types; fp16 ones as fp32 in `exact` mode. A classifier's label and
            probabilities as Python values.

        Raises:
            Mismatch: inputs, or a result, that are not what is declared.
        """
        if mode not in MODES:
            raise Mismatch(f"mode '{mode}'", expected=f"one of: {', '.join(MODES)}")
        if set(inputs) != {item.name for item in self.inputs}:
            raise Mismatch(f"inputs {sorted(inputs)}", expected=f"{sorted(item.name for item in self.inputs)}")
        if set(state or {}) != set(self.states):
            raise Mismatch(f"states {sorted(state or {})}", expected=f"{sorted(self.states)}, from make_state()")
        values: dict[str, Any] = {name: self.known.carrier(name) for name in self._constant_outputs()}
        for item in self.inputs:
            array = item.check(inputs[item.name])
            half = item.type.dtype.carrier != item.type.dtype.numpy and mode != "exact"
            values[item.name] = to_half(array) if half else array
        with np.errstate(all="ignore"):
            results = Run(values, mode, state if state is not None else {}, observe).block(self.plan)
            return {name: self._declared(name, v, mode) for name, v in zip(self.outputs, results, strict=True)}

    def weights(self) -> Iterator[tuple[str, Array]]:
        """Yield every constant tensor, decompressed, in its declared type."""
        for name, value in self.known.constants.items():
            if isinstance(value, np.ndarray):
                yield name, value

    def _constant_outputs(self) -> Iterator[str]:
        blocks = [self.plan]
        while blocks:
            block = blocks.pop()
            blocks += [inner for step in block.steps for inner in step.blocks]
            yield from (name for name in block.outputs if name in self.known.constants)

    def _declared(self, name: str, value: Any, mode: Mode) -> Any:
        kind = self.known.types[name]
        if isinstance(kind, TensorType) and mode != "exact":
            return value.astype(kind.dtype.numpy, copy=False)
        return value


def _planned(function: Function) -> tuple[Plan, Known]:
    found, known = plan(function)
    return in_place(found), known


def open_program(package: Path, function: str | None = None) -> Program:
    """Read a package and prepare one of its functions.

    Args:
        package: an `.mlpackage` directory.
        function: its name in a package of several; by default the one the package names.

    Raises:
        Malformed: the files contradict themselves or each other.
        UnsupportedOp: it is no ML program, or uses what the executor has no definition of.
        Mismatch: declared types that do not follow from the operations.
    """
    path = proto.model_file(package)
    model = proto.read_model(path)
    program = model.mlProgram
    if program.version != 1 or set(program.attributes) - {"buildInfo"}:
        raise Malformed(f"'{path}' is a program of version {program.version}", expected="1")
    names = tuple(sorted(program.functions))
    name = function or model.description.defaultFunctionName or ("main" if "main" in names else "".join(names[:1]))
    if name not in names:
        raise Mismatch(f"'{package}' has no function '{name}'", expected=f"one of: {', '.join(names)}")
    described = {item.name: item for item in model.description.functions}
    features = described[name].input if name in described else model.description.input
    constants = Constants(path.parent / "weights")
    parsed = read_function(name, program.functions[name], constants)
    return Program(parsed, {item.name: item for item in features}, names)
