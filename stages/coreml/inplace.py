"""Which updates of states a run may make in the state's own array: a cache of 59 MB is not copied for every token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from stages.coreml.ir import Operation
from stages.coreml.ops.slicing import update_in_place
from stages.coreml.plan import Plan, Step, reads
from stages.coreml.registry import OPS

WRITES = {"write_state", "coreml_update_state"}


def in_place(plan: Plan) -> Plan:
    """Return the plan of a function in which states are updated in place where nothing can tell.

    Something can where a value that may share the state's array (anything made from it, but by a sum of products) is
    given out, put into another state, or read after the update; and where anything else is written to the state than
    such an update of it.
    """
    sharing = _sharing(plan)
    own = {state: names for state, names in sharing.items() if _is_alone(plan, state, names)}
    last = {name: at for at, step in enumerate(plan.steps) for name in reads(step.operation)}
    return replace(plan, steps=tuple(_updating(plan, own, last)))


def _updating(plan: Plan, own: Mapping[str, set[str]], last: Mapping[str, int]) -> Iterator[Step]:
    before = set[str]()
    for at, step in enumerate(plan.steps):
        if step.operation.type == "slice_update":
            source, target = step.operation.inputs["x"][0], step.operation.output
            states = [state for state, names in own.items() if source in names]
            if (
                len(states) == 1
                and _is_next(plan.steps[at:], states[0], target)
                and all(last.get(name, at) <= at for name in own[states[0]] & before)
            ):
                step = replace(step, function=update_in_place)
        before.update(named.name for named in step.outputs)
        yield step


def _is_next(steps: Sequence[Step], state: str, value: str) -> bool:
    """Whether the next thing that is done with a state is to write this value into it."""
    user = next((step.operation for step in steps if state in reads(step.operation)), None)
    return user is not None and user.type in WRITES and value in reads(user)


def _sharing(plan: Plan) -> dict[str, set[str]]:
    """Return, by state, the values that may share its array."""
    found: dict[str, set[str]] = {}
    for step in plan.steps:
        operation, made = step.operation, {named.name for named in step.outputs}
        if operation.type == "read_state":
            found.setdefault(operation.inputs["input"][0], set()).update(made)  # type: ignore[arg-type]
        elif operation.type not in OPS or OPS[operation.type].arithmetic != "accumulates":
            for names in found.values():
                if names & reads(operation):
                    names |= made
    return found


def _is_alone(plan: Plan, state: str, names: set[str]) -> bool:
    """Whether nobody but a function's own steps may hold a state's array."""
    makers = {named.name: step.operation for step in plan.steps for named in step.outputs}
    users = [step.operation for step in plan.steps if state in reads(step.operation)]
    written = {name for one in users if one.type in WRITES for name in reads(one)} - {state}
    others = [step.operation for step in plan.steps if step.operation.type in WRITES]
    return (
        not names & set(plan.outputs)
        and not any(names & reads(one) for one in others if state not in reads(one))
        and all(one.type in {"read_state", *WRITES} for one in users)
        and all(name in makers and _updates(makers[name], names) for name in written)
    )


def _updates(operation: Operation, names: set[str]) -> bool:
    return operation.type == "slice_update" and operation.inputs["x"][0] in names
