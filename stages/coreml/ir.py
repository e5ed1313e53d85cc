"""A program as typed, checked Python values: every name is defined once, before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.coreml.errors import Malformed, UnsupportedOp
from stages.coreml.values import Constants, Type, Value, read_type

_MAX_BLOCK_DEPTH = 16


@dataclass(frozen=True)
class Named:
    """A name with its declared type."""

    name: str
    type: Type


@dataclass(frozen=True)
class Literal:
    """An argument written in place instead of by name."""

    value: Value
    type: Type


Argument = tuple[str | Literal, ...]


@dataclass(frozen=True)
class Operation:
    """One operation: arguments by parameter name, declared outputs, nested blocks of control flow."""

    type: str
    inputs: Mapping[str, Argument]
    outputs: tuple[Named, ...]
    attributes: Mapping[str, Literal]
    blocks: tuple[Block, ...]
    function: str

    def __str__(self) -> str:
        return f"op '{self.type}' (output '{self.output}', function '{self.function}')"

    @property
    def output(self) -> str:
        """Name of the first output, or of the state it writes."""
        if self.outputs:
            return self.outputs[0].name
        return next((a for args in self.inputs.values() for a in args if isinstance(a, str)), "none")


@dataclass(frozen=True)
class Block:
    """Operations in order of execution."""

    inputs: tuple[Named, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def walk(self) -> Iterator[Operation]:
        """Yield operations, nested blocks included, in order."""
        for operation in self.operations:
            yield operation
            for block in operation.blocks:
                yield from block.walk()


@dataclass(frozen=True)
class Function:
    """An entry point of a program."""

    name: str
    inputs: tuple[Named, ...]
    opset: str
    block: Block


@dataclass
class _Scope:
    function: str
    constants: Constants
    names: set[str] = field(default_factory=set)

    def define(self, named: Named) -> None:
        if not named.name or named.name in self.names:
            raise Malformed(f"function '{self.function}' defines '{named.name}' twice")
        self.names.add(named.name)

    def use(self, name: str, user: str) -> str:
        if name not in self.names:
            raise Malformed(f"{user} of function '{self.function}' uses '{name}' before it is defined")
        return name

    def nested(self) -> _Scope:
        return _Scope(self.function, self.constants, set(self.names))


def read_function(name: str, message: Any, constants: Constants) -> Function:
    """Convert a `Function`.

    Raises:
        Malformed: a name used before its definition (hence any cycle) or defined twice, no block for the opset.
        UnsupportedOp: attributes or types the executor does not know.
    """
    if message.attributes:
        raise UnsupportedOp(f"attributes {sorted(message.attributes)} on function '{name}'")
    if message.opset not in message.block_specializations:
        raise Malformed(f"function '{name}' has no block for its opset '{message.opset}'")
    scope = _Scope(name, constants)
    inputs = tuple(_named(item) for item in message.inputs)
    for item in inputs:
        scope.define(item)
    return Function(name, inputs, message.opset, _block(message.block_specializations[message.opset], scope, 0))


def _named(message: Any) -> Named:
    return Named(message.name, read_type(message.type))


def _block(message: Any, scope: _Scope, depth: int) -> Block:
    if depth > _MAX_BLOCK_DEPTH:
        raise Malformed(f"function '{scope.function}' nests blocks too deeply")
    if message.attributes:
        raise UnsupportedOp(f"attributes {sorted(message.attributes)} on a block of function '{scope.function}'")
    inputs = tuple(_named(item) for item in message.inputs)
    for item in inputs:
        scope.define(item)
    operations = tuple(_operation(item, scope, depth) for item in message.operations)
    return Block(inputs, operations, tuple(scope.use(name, "a block output") for name in message.outputs))


def _operation(message: Any, scope: _Scope, depth: int) -> Operation:
    user = f"op '{message.type}'"
    try:
        inputs = {key: _argument(value, scope, user) for key, value in message.inputs.items()}
        attributes = {key: _literal(value, scope) for key, value in message.attributes.items()}
        outputs = tuple(_named(item) for item in message.outputs)
    except (Malformed, UnsupportedOp) as error:
        first = message.outputs[0].name if message.outputs else "none"
        if str(error).startswith(user):
            raise
        raise type(error)(f"{user} (output '{first}', function '{scope.function}'): {error}") from error
    blocks = tuple(_block(item, scope.nested(), depth + 1) for item in message.blocks)
    for item in outputs:
        scope.define(item)
    return Operation(message.type, inputs, outputs, attributes, blocks, scope.function)


def _argument(message: Any, scope: _Scope, user: str) -> Argument:
    found: list[str | Literal] = []
    for binding in message.arguments:
        if binding.WhichOneof("binding") == "name":
            found.append(scope.use(binding.name, user))
        else:
            found.append(_literal(binding.value, scope))
    return tuple(found)


def _literal(message: Any, scope: _Scope) -> Literal:
    return Literal(scope.constants.read(message), read_type(message.type))
