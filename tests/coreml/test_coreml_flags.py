import numpy as np

from stages.coreml import dtypes, open_program
from stages.coreml.flags import Watch, constant_flags
from tests.toys.mil import Builder


def product(tmp_path, factor):
    b = Builder()
    b.input("x", dtypes.FP16, (2,))
    y = b.op("mul", (2,), dtypes.FP16, x="x", y=b.const(np.full(2, factor), dtypes.FP16))
    moved = b.op("expand_dims", (1, 2), dtypes.FP16, x=y, axes=b.const(np.array([0])))
    return open_program(b.save(tmp_path, moved)), y


def watched(program, values):
    watch = Watch()
    program.run({"x": np.array(values, np.float16)}, "declared", observe=watch)
    return watch.flags()


def test_an_overflow_is_charged_to_the_operation_it_arose_in(tmp_path):
    program, y = product(tmp_path, 300)
    (flag,) = watched(program, [300, 1])
    assert (flag.operation, flag.output, flag.kind, flag.count) == ("mul", y, "overflow", 1)
    assert flag.extreme == 90000


def test_a_product_that_vanishes_is_an_underflow(tmp_path):
    program, _ = product(tmp_path, 1e-4)
    (flag,) = watched(program, [1e-4, 1])
    assert (flag.kind, flag.count, flag.size) == ("underflow", 1, 2)


def test_what_fp16_holds_raises_no_flag(tmp_path):
    program, _ = product(tmp_path, 2)
    assert watched(program, [3, 0]) == []
    assert constant_flags(program) == []


def test_not_a_number_is_flagged(tmp_path):
    program, _ = product(tmp_path, 1)
    assert [flag.kind for flag in watched(program, [np.nan, 1])] == ["not_a_number"]


def test_a_subnormal_epsilon_is_flagged_with_its_reader(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP16, (1, 4))
    epsilon = b.const(np.array(1e-12 + 6e-8), dtypes.FP16)
    y = b.op("layer_norm", (1, 4), dtypes.FP16, x="x", axes=b.const(np.array([1])), epsilon=epsilon)
    (flag,) = constant_flags(open_program(b.save(tmp_path, y)))
    assert (flag.operation, flag.kind) == ("layer_norm(epsilon)", "subnormal_constant")
    assert flag.extreme == np.float16(6e-8)
