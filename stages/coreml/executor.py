"""Runs planned steps: numpy in fp32, rounded where the mode says so, every result checked against its declaration.

Modes:
    exact: fp16 tensors keep fp32 values; what remains against the reference is the conversion's own error.
    declared: each computed output is rounded once to the type the program declares.
    native: element-wise arithmetic happens in fp16; sums of products still accumulate in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Literal

import numpy as np

from stages.coreml.dtypes import FP16, Array
from stages.coreml.errors import Malformed, Mismatch
from stages.coreml.ir import Named, Operation
from stages.coreml.ops._limits import MAX_ELEMENTS
from stages.coreml.plan import FAILURES, Name, Plan, Step, _as_tuple, blamed
from stages.coreml.registry import convert
from stages.coreml.values import TensorType

Mode = Literal["exact", "declared", "native"]
MODES: tuple[Mode, ...] = ("exact", "declared", "native")
State = MutableMapping[str, Array]
Observer = Callable[[Operation, Named, Array, Array], Array | None]
"""Called with each tensor an operation made, before rounding and as stored; what it returns replaces the latter."""
MAX_ITERATIONS = 100_000
"""Of one `while_loop`; a program whose condition never fails must not hang."""


def to_half(values: Array) -> Array:
    """Round fp32 values to the nearest fp16, still carried in fp32; beyond 65,504 that is infinity."""
    return values.astype(np.float16).astype(np.float32)


def keep_freed_memory() -> None:
    """Have glibc keep up to 32 MiB of freed arrays for the next run.

    It returns arrays of 128 KiB and more to the system as they are freed, and fetches them again: 450 page faults in
    each run of a 4-layer x 256 encoder, a sixth of its time. Freeing one larger array, whose pages are never
    touched, raises that threshold (`man mallopt`, M_MMAP_THRESHOLD).
    """
    np.empty(16 << 20, np.uint8)


class Run:
    """One execution of a plan."""

    def __init__(self, values: dict[str, Any], mode: Mode, state: State, observe: Observer | None) -> None:
        """Start from the inputs' values."""
        self.values = values
        self.mode = mode
        self.state = state
        self.observe = observe

    def block(self, plan: Plan) -> list[Any]:
        """Run a block and return its outputs."""
        values, native = self.values, self.mode == "native"
        for step, released in zip(plan.steps, plan.released, strict=True):
            try:
                if step.plain is not None and not native:
                    results = step.plain(**{key: values[name] for key, name in step.tensors})
                elif step.function is None:
                    results = _CONTROL[step.operation.type](self, step)
                else:
                    results = step.function(**self._arguments(step))
                if len(step.outputs) == 1 and not isinstance(results, tuple):  # nearly every step
                    self._store(step, 0, results)
                else:
                    for number, result in enumerate(_as_tuple(results, len(step.outputs))):
                        self._store(step, number, result)
            except FAILURES as error:
                raise blamed(step.operation, error) from error
            for name in released:
                del values[name]
        return [values[name] for name in plan.outputs]

    def _arguments(self, step: Step) -> dict[str, Any]:
        arguments = dict(step.constants)
        values = self.values
        for key, name in step.tensors:
            arguments[key] = values[name]
        for key, kind, name in step.converted:
            arguments[key] = convert(kind, values[name])
        for key, items in step.lists:
            arguments[key] = [values[item] if isinstance(item, Name) else item for item in items]
        if step.half and self.mode == "native":
            for key in step.half & arguments.keys():
                arguments[key] = _narrow(arguments[key])
        return arguments

    def _store(self, step: Step, number: int, result: Any) -> None:
        """Hold a result to its declaration, round it where the mode says so, and keep it."""
        named = step.outputs[number]
        kind = named.type
        if not isinstance(kind, TensorType):
            self.values[named.name] = result
            return
        value = result if type(result) is np.ndarray else np.asarray(result)
        carrier = kind.dtype.carrier
        if value.dtype is not carrier:
            if value.dtype == FP16.numpy:
                value = value.astype(np.float32)
            if value.dtype != carrier:
                raise Mismatch(f"'{named.name}' has type {value.dtype}", expected=f"'{kind}', as declared")
        shape = value.shape
        if not step.held or shape != step.held[number]:
            if shape != kind.shape and not kind.admits(shape):
                raise Mismatch(f"'{named.name}' has shape {shape}", expected=f"'{kind}', as declared")
            if value.size > MAX_ELEMENTS:
                raise Mismatch(f"'{named.name}' has {value.size} elements", expected=f"at most {MAX_ELEMENTS}")
            if step.held:
                step.held[number] = shape
        stored = to_half(value) if step.rounds[number] and self.mode != "exact" else value
        if self.observe is not None:
            replaced = self.observe(step.operation, named, value, stored)
            stored = stored if replaced is None else replaced
        self.values[named.name] = stored

    def read_state(self, step: Step) -> tuple[Any, ...]:
        """Return a state's value itself: what is written in place is read nowhere else (`inplace`)."""
        return (self.state[_state_name(step, "input")],)

    def write_state(self, step: Step) -> tuple[Any, ...]:
        """Replace a state's value."""
        named = {key: items[0] for key, items in step.lists}
        target = _state_name(step, "state" if "state" in named else "input")
        source = named["value" if "value" in named else "data"]
        value = self.values[source] if isinstance(source, Name) else source
        self.state[target] = np.asarray(value)
        return (value,) if step.outputs else ()

    def cond(self, step: Step) -> tuple[Any, ...]:
        """Run one of two blocks."""
        (source,) = dict(step.lists)["pred"]
        chosen = convert(bool, self.values[source] if isinstance(source, Name) else source)
        return tuple(self.block(step.blocks[0 if chosen else 1]))

    def while_loop(self, step: Step) -> tuple[Any, ...]:
        """Run the body while the condition holds; both see the loop variables."""
        condition, body = step.blocks
        items = dict(step.lists)["loop_vars"]
        variables = [self.values[item] if isinstance(item, Name) else item for item in items]
        for _ in range(MAX_ITERATIONS):
            self._enter(condition, variables)
            (holds,) = self.block(condition)
            if not convert(bool, holds):
                return tuple(variables)
            self._enter(body, variables)
            variables = self.block(body)
        raise Mismatch(f"the loop is still running after {MAX_ITERATIONS} rounds")

    def _enter(self, plan: Plan, variables: list[Any]) -> None:
        if len(plan.inputs) != len(variables):
            raise Malformed(f"{len(variables)} loop variables for a block of {len(plan.inputs)} inputs")
        self.values.update(zip((named.name for named in plan.inputs), variables, strict=True))


def _state_name(step: Step, parameter: str) -> str:
    (name,) = dict(step.lists)[parameter]
    assert isinstance(name, Name)
    return name


def _narrow(value: Any) -> Any:
    if isinstance(value, list):
        return [_narrow(item) for item in value]
    return value.astype(np.float16) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


_CONTROL: dict[str, Callable[[Run, Step], tuple[Any, ...]]] = {
    "read_state": Run.read_state,
    "write_state": Run.write_state,
    "coreml_update_state": Run.write_state,
    "cond": Run.cond,
    "while_loop": Run.while_loop,
}
