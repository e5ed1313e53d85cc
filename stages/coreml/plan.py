"""Turns a function into steps: constants decompressed, arguments converted and types checked once, before any run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from stages.coreml import dtypes, ops
from stages.coreml.dtypes import DType
from stages.coreml.errors import Malformed, Mismatch, ProgramError, UnsupportedOp
from stages.coreml.ir import Block, Function, Literal, Named, Operation
from stages.coreml.registry import OPS, Labels, Op, Tensor, Tensors, convert
from stages.coreml.values import StateType, TensorType, Type, Value

CONTROL = {
    "read_state": ({"input"}, 1, 0),
    "write_state": ({"input", "data"}, 0, 0),
    "coreml_update_state": ({"state", "value"}, 1, 0),
    "cond": ({"pred"}, None, 2),
    "while_loop": ({"loop_vars"}, None, 2),
}
"""Operations the executor runs itself: their arguments, outputs (None: as many as the blocks have) and blocks."""
_PREFIX = "constexpr_"
FAILURES = (ProgramError, ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError, MemoryError)
"""What an operation may raise: our own errors, and numpy's complaints about values that do not fit together."""
assert ops  # importing it fills the registry


class Name(str):
    """An argument that another step makes, as opposed to a constant string."""

    __slots__ = ()


@dataclass(frozen=True)
class Step:
    """One operation, ready to run."""

    operation: Operation
    outputs: tuple[Named, ...]
    rounds: tuple[bool, ...]
    """Per output: declared fp16 and computed rather than moved."""
    function: Callable[..., Any] | None = None
    """None for control operations."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[tuple[str, str], ...] = ()
    """(parameter, name) of other operations' results that are taken as they are."""
    converted: tuple[tuple[str, Any, str], ...] = ()
    """(parameter, kind, name) of other operations' results that stand for numbers, axes or lists."""
    lists: tuple[tuple[str, tuple[Name | Value, ...]], ...] = ()
    half: frozenset[str] = frozenset()
    """Parameters holding fp16 values, which `native` arithmetic narrows; empty where it accumulates."""
    blocks: tuple[Plan, ...] = ()
    plain: Callable[..., Any] | None = None
    """The function with its constants, where all else that it takes is tensors as they are."""
    held: list[tuple[int, ...] | None] = field(default_factory=list)
    """Per output: the shape that was last held to its declaration, which changes from call to call and seldom does."""


@dataclass(frozen=True)
class Plan:
    """A block, ready to run."""

    inputs: tuple[Named, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    released: tuple[tuple[str, ...], ...]
    """Per step: results that nothing reads after it, so that a run holds a layer's values and not the program's."""


@dataclass
class Known:
    """What is known of every name before a run."""

    types: dict[str, Type] = field(default_factory=dict)
    constants: dict[str, Value] = field(default_factory=dict)
    """In declared storage."""
    carriers: dict[str, Value] = field(default_factory=dict)
    """As operations see them: fp16 widened to fp32, once."""

    def carrier(self, name: str) -> Value:
        """Return a constant as operations see it."""
        if name not in self.carriers:
            value = self.constants[name]
            half = isinstance(value, np.ndarray) and value.dtype == np.float16
            self.carriers[name] = value.astype(np.float32) if half else value  # type: ignore[union-attr]
        return self.carriers[name]


def blamed(operation: Operation, error: Exception) -> ProgramError:
    """Return an error that names the operation it came from: of the same class, or Mismatch for numpy's complaints."""
    if not isinstance(error, ProgramError):
        return Mismatch(f"{operation}: {type(error).__name__}: {error}")
    text = str(error)
    return type(error)(text if text.startswith("op '") else f"{operation}: {text}")


def plan(function: Function) -> tuple[Plan, Known]:
    """Prepare a function.

    Raises:
        UnsupportedOp: an operation, parameter or setting the executor has no definition of.
        Mismatch: declared types that do not follow from the operations.
        Malformed: constants that contradict their declaration.
    """
    known = Known()
    for item in function.inputs:
        known.types[item.name] = item.type
    return _plan_block(function.block, known), known


def _plan_block(block: Block, known: Known) -> Plan:
    steps: list[Step] = []
    for item in block.inputs:
        known.types[item.name] = item.type
    for operation in block.operations:
        for item in operation.outputs:
            known.types[item.name] = item.type
        try:
            if operation.type == "const":
                _constant(operation, known)
            elif operation.type.startswith(_PREFIX):
                _decompress(operation, known)
            else:
                steps.append(_step(operation, known))
        except FAILURES as error:
            raise blamed(operation, error) from error
    return Plan(block.inputs, tuple(steps), block.outputs, _released(steps, block.outputs))


def _released(steps: list[Step], kept: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return, per step, the results of this block that no later step reads."""
    made = {named.name for step in steps for named in step.outputs}
    later = set(kept)
    released = []
    for step in reversed(steps):
        used = reads(step.operation) | {named.name for named in step.outputs}
        released.append(tuple((used & made) - later))
        later |= used
    return tuple(reversed(released))


def reads(operation: Operation) -> set[str]:
    """Name what an operation reads, its blocks included."""
    names = {argument for arguments in operation.inputs.values() for argument in arguments if isinstance(argument, str)}
    for block in operation.blocks:
        names.update(block.outputs, *map(reads, block.operations))
    return names


def _constant(operation: Operation, known: Known) -> None:
    if set(operation.attributes) - {"name"} != {"val"} or len(operation.outputs) != 1 or operation.inputs:
        raise Malformed(f"a constant with attributes {sorted(operation.attributes)}", expected="'val'")
    literal, named = operation.attributes["val"], operation.outputs[0]
    if literal.type != named.type:
        raise Malformed(f"a value of type '{literal.type}'", expected=f"'{named.type}', as declared")
    known.constants[named.name] = literal.value


def _decompress(operation: Operation, known: Known) -> None:
    definition = _definition(operation)
    raw: dict[str, Any] = {key: value.value for key, value in operation.attributes.items() if key != "name"}
    types = {key: value.type for key, value in operation.attributes.items() if key != "name"}
    for key, arguments in operation.inputs.items():
        value, types[key] = _constant_argument(key, arguments, known)
        raw[key] = value
    _check_parameters(definition, set(raw))
    arguments_ = {key: convert(definition.parameters[key].kind, value) for key, value in raw.items()}
    _check_declared(operation, definition, _tensor_dtypes(types), arguments_)
    with np.errstate(all="ignore"):
        result = definition.function(**arguments_)
    for named, value in zip(operation.outputs, _as_tuple(result, len(operation.outputs)), strict=True):
        assert isinstance(named.type, TensorType)
        if not named.type.admits(value.shape) or value.dtype != named.type.dtype.numpy:
            raise Mismatch(f"'{named.name}' is {value.dtype}{value.shape}", expected=f"'{named.type}', as declared")
        known.constants[named.name] = value


def _constant_argument(key: str, arguments: tuple[str | Literal, ...], known: Known) -> tuple[Value, Type]:
    if len(arguments) != 1:
        raise Malformed(f"{len(arguments)} values for '{key}'", expected="one")
    argument = arguments[0]
    if isinstance(argument, Literal):
        return argument.value, argument.type
    if argument not in known.constants:
        raise Malformed(f"'{key}' is '{argument}', which is no constant")
    return known.constants[argument], known.types[argument]


def _definition(operation: Operation) -> Op:
    if operation.type not in OPS:
        raise UnsupportedOp(f"{operation}: the executor has no such operation", expected=f"one of {len(OPS)} known")
    if operation.blocks:
        raise UnsupportedOp("nested blocks")
    return OPS[operation.type]


def _check_parameters(definition: Op, given: set[str]) -> None:
    unknown = sorted(given - set(definition.parameters))
    if unknown:
        raise UnsupportedOp(f"parameters {unknown}", expected=f"only {sorted(definition.parameters)}")
    missing = sorted(key for key, value in definition.parameters.items() if value.required and key not in given)
    if missing:
        raise Malformed(f"parameters {missing} are missing")


def _step(operation: Operation, known: Known) -> Step:
    if set(operation.attributes) - {"name"}:
        raise UnsupportedOp(f"attributes {sorted(operation.attributes)}", expected="only 'name'")
    if operation.type in CONTROL:
        return _control(operation, known)
    definition = _definition(operation)
    _check_parameters(definition, set(operation.inputs))
    constants: dict[str, Any] = {}
    # By names of plain strings, which dictionaries find faster than `Name`.
    tensors: list[tuple[str, str]] = []
    converted: list[tuple[str, Any, str]] = []
    lists: list[tuple[str, tuple[Name | Value, ...]]] = []
    for key, arguments in operation.inputs.items():
        kind = definition.parameters[key].kind
        bound = [_bind(argument, known) for argument in arguments]
        if kind in (Tensors, Labels) and not (bound and isinstance(bound[0], list)):
            lists.append((key, tuple(bound)))
        elif len(bound) != 1:
            raise Malformed(f"{len(bound)} values for '{key}'", expected="one")
        elif not isinstance(bound[0], Name):
            constants[key] = convert(kind, bound[0])
        elif kind == Tensor:
            tensors.append((key, str(bound[0])))
        else:
            converted.append((key, kind, str(bound[0])))
    types = dict(_argument_types(operation, known))
    _check_declared(operation, definition, types, constants)
    narrow = (
        frozenset(k for k, t in types.items() if t is dtypes.FP16) if definition.arithmetic == "steps" else frozenset()
    )
    rounds = tuple(definition.arithmetic != "moves" and _is_half(named.type) for named in operation.outputs)
    return Step(
        operation,
        operation.outputs,
        rounds,
        definition.function,
        constants,
        tuple(tensors),
        tuple(converted),
        tuple(lists),
        narrow,
        plain=None if converted or lists else partial(definition.function, **constants),
        held=[None] * len(operation.outputs),
    )


def _is_half(kind: Type) -> bool:
    return isinstance(kind, TensorType) and kind.dtype is dtypes.FP16


def _bind(argument: str | Literal, known: Known) -> Any:
    if isinstance(argument, Literal):
        value = argument.value
        return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float16 else value
    return known.carrier(argument) if argument in known.constants else Name(argument)


def _argument_types(operation: Operation, known: Known) -> Iterator[tuple[str, DType]]:
    """Yield the element type of each tensor argument; those of a list must agree."""
    for key, arguments in operation.inputs.items():
        kinds = {
            kind.dtype
            for argument in arguments
            for kind in [argument.type if isinstance(argument, Literal) else known.types[argument]]
            if isinstance(kind, TensorType)
        }
        if len(kinds) > 1:
            raise Mismatch(f"values of types {sorted(kind.name for kind in kinds)} for '{key}'", expected="one type")
        if kinds:
            yield key, kinds.pop()


def _tensor_dtypes(types: dict[str, Type]) -> dict[str, DType]:
    return {key: kind.dtype for key, kind in types.items() if isinstance(kind, TensorType)}


def _check_declared(operation: Operation, definition: Op, types: dict[str, DType], constants: dict[str, Any]) -> None:
    """Check that declared output types follow from the arguments'."""
    agreeing = {types[key] for key in definition.matching if key in types}
    if len(agreeing) > 1:
        names = sorted(kind.name for kind in agreeing)
        raise Mismatch(f"operands of types {names}", expected=f"one type for {list(definition.matching)}")
    for index, named in enumerate(operation.outputs):
        rule = definition.returns[min(index, len(definition.returns) - 1)]
        if rule is None:
            continue
        follows = _followed(rule, types, constants)
        if not isinstance(named.type, TensorType) or named.type.dtype is not follows:
            raise Mismatch(
                f"'{named.name}' is declared '{named.type}'",
                expected=f"element type '{follows.name if follows else 'none'}', which its arguments give",
            )


def _followed(rule: Any, types: dict[str, DType], constants: dict[str, Any]) -> DType | None:
    if isinstance(rule, str):
        return types.get(rule)
    if isinstance(rule, DType):
        return rule
    try:
        follows: DType = rule(types, constants)
    except KeyError as error:
        raise Malformed(f"parameter {error} is no constant") from error
    return follows


def _control(operation: Operation, known: Known) -> Step:
    parameters, outputs, blocks = CONTROL[operation.type]
    if set(operation.inputs) != parameters or len(operation.blocks) != blocks:
        raise Malformed(f"arguments {sorted(operation.inputs)}, {len(operation.blocks)} blocks")
    if outputs is not None and len(operation.outputs) != outputs:
        raise Malformed(f"{len(operation.outputs)} outputs", expected=str(outputs))
    names = {key: tuple(_bind(a, known) for a in arguments) for key, arguments in operation.inputs.items()}
    _check_state(operation, known)
    planned = tuple(_plan_block(block, known) for block in operation.blocks)
    moved = (False,) * len(operation.outputs)
    return Step(operation, operation.outputs, moved, lists=tuple(names.items()), blocks=planned)


def _check_state(operation: Operation, known: Known) -> None:
    if "state" not in operation.type:
        return
    state, *values = [known.types[a] for args in _state_first(operation) for a in args if isinstance(a, str)]
    if not isinstance(state, StateType):
        raise Mismatch(f"the argument is a '{state}'", expected="a state")
    for kind in [*values, *(named.type for named in operation.outputs)]:
        if kind != state.tensor:
            raise Mismatch(f"a value of type '{kind}'", expected=f"'{state.tensor}', which the state holds")


def _state_first(operation: Operation) -> list[tuple[str | Literal, ...]]:
    first = "state" if "state" in operation.inputs else "input"
    return [operation.inputs[first], *(value for key, value in operation.inputs.items() if key != first)]


def _as_tuple(result: Any, count: int) -> tuple[Any, ...]:
    values = result if isinstance(result, tuple) else (result,)
    if len(values) != count:
        raise Mismatch(f"{len(values)} results for {count} declared outputs")
    return values
