"""Tests of `stages/coreml/inplace.py`: a state is written where it lies, and never where somebody could tell."""

import numpy as np
import pytest

from stages.coreml import dtypes, open_program
from tests.toys.mil import Builder


class Counter(Builder):
    """A program that writes its input `x` [1] into state `kept` [4] at `position`."""

    def __init__(self):
        super().__init__()
        self.input("x", dtypes.FP32, (1,))
        self.input("position", dtypes.INT32, (1,))
        self.state("kept", dtypes.FP32, (4,))
        self.one = self.const(np.array([1], np.int32))

    def read(self):
        return self.op("read_state", (4,), input="kept")

    def write(self, value):
        self.bind(self.block.operations.add(type="write_state"), {"input": "kept", "data": value})

    def grown(self, value):
        end = self.op("add", (1,), dtypes.INT32, x="position", y=self.one)
        return self.op("slice_update", (4,), x=value, update="x", begin="position", end=end)


def ran(program, state, *pairs):
    found = [
        program.run({"x": np.array([x], np.float32), "position": np.array([at], np.int32)}, state=state)
        for x, at in pairs
    ]
    return [next(iter(one.values())) for one in found]


def doubled(b, value):
    return b.op("matmul", (4,), x=value, y=b.const(2 * np.eye(4, dtype=np.float32)))


def in_place(program):
    return [step.function.__name__ for step in program.plan.steps if step.operation.type == "slice_update"] == [
        "update_in_place"
    ]


def test_a_state_is_written_in_its_own_array(tmp_path):
    b = Counter()
    b.write(b.grown(b.read()))
    program = open_program(b.save(tmp_path, doubled(b, b.read())))
    state = program.make_state()
    array = state["kept"]
    assert in_place(program)
    first, second = ran(program, state, (3, 0), (5, 2))
    assert state["kept"] is array
    assert (array.tolist(), first.tolist(), second.tolist()) == ([3, 0, 5, 0], [6, 0, 0, 0], [6, 0, 10, 0])


def old_value(b):
    old = b.read()
    b.write(b.grown(old))
    return doubled(b, old)


def view_of_old_value(b):
    old = b.read()
    view = b.op("reshape", (4,), x=old, shape=b.const(np.array([4], np.int32)))
    b.write(b.grown(old))
    return doubled(b, view)


def read_between(b):
    grown = b.grown(b.read())
    between = doubled(b, b.read())
    b.write(grown)
    return between


def never_written(b):
    b.grown(b.read())
    return doubled(b, b.read())


@pytest.mark.parametrize("build", [old_value, view_of_old_value, read_between, never_written])
def test_what_was_read_before_keeps_its_value(build, tmp_path):
    b = Counter()
    program = open_program(b.save(tmp_path, build(b)))
    assert not in_place(program)
    (found,) = ran(program, program.make_state(), (3, 0))
    assert found.tolist() == [0, 0, 0, 0]


def test_what_was_given_out_keeps_its_value(tmp_path):
    b = Counter()
    b.write(b.grown(b.read()))
    program = open_program(b.save(tmp_path, b.read()))
    first, second = ran(program, program.make_state(), (3, 0), (5, 1))
    assert (first.tolist(), second.tolist()) == ([3, 0, 0, 0], [3, 5, 0, 0])


def test_what_the_caller_gave_keeps_its_value(tmp_path):
    b = Counter()
    b.input("whole", dtypes.FP32, (4,))
    b.write("whole")
    b.write(b.grown(b.read()))
    program = open_program(b.save(tmp_path, doubled(b, b.read())))
    whole = np.zeros(4, np.float32)
    inputs = {"x": np.ones(1, np.float32), "position": np.zeros(1, np.int32), "whole": whole}
    state = program.make_state()
    program.run(inputs, state=state)
    assert (whole.tolist(), state["kept"].tolist()) == ([0, 0, 0, 0], [1, 0, 0, 0])


def test_what_another_state_holds_keeps_its_value(tmp_path):
    b = Counter()
    b.state("other", dtypes.FP32, (4,))
    held = b.read()
    b.bind(b.block.operations.add(type="write_state"), {"input": "other", "data": held})
    b.write(b.grown(b.read()))
    program = open_program(b.save(tmp_path, doubled(b, b.read())))
    state = program.make_state()
    ran(program, state, (3, 0), (5, 1))
    assert (state["other"].tolist(), state["kept"].tolist()) == ([3, 0, 0, 0], [3, 5, 0, 0])
