"""An artifact as every accelerator sees it: operators in order, the tensors between them, and who refuses which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal


@dataclass(frozen=True)
class Tensor:
    """What an operator reads or writes.

    Attributes:
        name: unique in its graph.
        dtype: as the format calls it.
        shape: sizes; empty of a scalar, and None where the file does not tell them.
        constant: whether it is stored in the file.
        scales: number of quantisation scales, 0 where it has none.
        scale: the first of them, 0 where there is none.
        zero: the zero point beside it.
        blocks: whether scales are shared by parts of a channel.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    constant: bool = False
    scales: int = 0
    scale: float = 0.0
    zero: int = 0
    blocks: bool = False

    @property
    def rank(self) -> int:
        """Number of axes, 0 where the shape is not known."""
        return len(self.shape or ())

    @property
    def size(self) -> int:
        """Number of elements, 0 where the shape is not known."""
        return 0 if self.shape is None else prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        kind: its type as the format calls it: `FULLY_CONNECTED`, `com.microsoft::FastGelu`, `linear`.
        inputs: in order; None where an optional one is left out.
        outputs: in order.
        macs: multiply-accumulates of one call.
        module: of the checkpoint that it came from, as far as names in the file tell it; or empty.
        version: of the operator's definition, where the format has one.
        options: its settings.
    """

    kind: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    macs: int = 0
    module: str = ""
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> Tensor:
        """The first input, or the result where there is none."""
        return next((tensor for tensor in self.inputs if tensor is not None), self.outputs[0])

    @property
    def given(self) -> tuple[Tensor, ...]:
        """Inputs that are there."""
        return tuple(tensor for tensor in self.inputs if tensor is not None)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it reads and writes."""
        return (*self.given, *self.outputs)


@dataclass(frozen=True)
class Graph:
    """What one call computes: its operators in an order in which they can be executed.

    Attributes:
        name: of the call.
        operators: in order.
        opset: what the set of operations is called that it is written in, where the format names one.
        planned: who was asked which accelerators take what, or empty where rules have to say it; each operator's
            option `planned` is the answer, None where there was none.
    """

    name: str
    operators: tuple[Operator, ...]
    opset: str = ""
    planned: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why an accelerator does not take an operator, or takes it and may compute it otherwise.

    Attributes:
        reason: in words.
        cure: the rewrite of the model after which it is taken; or empty where none is known.
        doubt: whether whoever hands out the work takes it all the same, so that it depends on the driver.
    """

    reason: str
    cure: str = ""
    doubt: bool = False


Basis = Literal["measured", "rules", "advisory"]
"""Whether a run here told it, the code that hands out the work, or what is written about that."""
Judge = Callable[[Graph], list[Refusal | None]]
"""What is said of each operator of a graph: None where it is taken."""


@dataclass(frozen=True)
class Accelerator:
    """What may execute parts of a graph.

    Attributes:
        name: as metrics, conf/gate and files call it.
        title: for readers.
        basis: where its rules come from.
        source: what was read, and when.
        judge: says of every operator whether it is taken.
        one_part: whether of several parts it executes the largest alone.
    """

    name: str
    title: str
    basis: Basis
    source: str
    judge: Judge
    one_part: bool = False


def planned_or(name: str, rule: Callable[[Operator], Refusal | None]) -> Judge:
    """Make a judge that believes a plan, and a rule where there is none for an operator."""

    def judge(one: Operator) -> Refusal | None:
        planned = one.options.get("planned")
        if planned is None:
            return rule(one)
        return None if name in planned else Refusal("the plan has other processors for it")

    return one_by_one(judge)


def one_by_one(rule: Callable[[Operator], Refusal | None]) -> Judge:
    """Make a judge of a rule that looks at single operators."""
    return lambda graph: [rule(operator) for operator in graph.operators]
