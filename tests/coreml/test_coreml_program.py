import subprocess
import sys
import weakref

import numpy as np
import pytest

from stages.coreml import dtypes, open_program
from stages.coreml.errors import Malformed, Mismatch, UnsupportedOp
from tests.toys.mil import Builder

X = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)


def unary(kind, **inputs):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    return b, b.op(kind, (2, 3), x="x", **inputs)


def test_importing_and_running_needs_neither_coremltools_nor_torch(tmp_path):
    b, y = unary("relu")
    package = b.save(tmp_path, y)
    code = (
        f"import sys, pathlib, numpy; from stages.coreml import open_program\n"
        f"open_program(pathlib.Path({str(package)!r})).run({{'x': numpy.zeros((2, 3), 'f')}})\n"
        "assert not {'coremltools', 'torch', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_outputs_carry_their_declared_names_and_types(tmp_path):
    b, y = unary("relu")
    outputs = open_program(b.save(tmp_path, y)).run({"x": X})
    assert list(outputs) == [y]
    np.testing.assert_array_equal(outputs[y], np.maximum(X, 0))


def half_sum(tmp_path):
    """fp16(x) + fp16(x): 2049 needs 12 bits of mantissa, fp16 has 11."""
    b = Builder()
    b.input("x", dtypes.FP32, (1,))
    half = b.op("cast", (1,), dtypes.FP16, x="x", dtype=b.const("fp16"))
    one = b.const(np.array([1.0]), dtypes.FP16)
    total = b.op("add", (1,), dtypes.FP16, x=half, y=one)
    back = b.op("sub", (1,), dtypes.FP16, x=total, y=b.const(np.array([2048.0]), dtypes.FP16))
    return open_program(b.save(tmp_path, back, total)), back


def test_exact_mode_keeps_what_declared_mode_rounds(tmp_path):
    program, back = half_sum(tmp_path)
    x = np.array([2048.0], np.float32)
    assert program.run({"x": x}, "exact")[back] == 1.0
    assert program.run({"x": x}, "declared")[back] == 0.0
    assert program.run({"x": x}, "native")[back] == 0.0


def test_native_mode_rounds_inside_an_operation(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP16, (1, 2))
    y = b.op("reduce_sum_square", (1,), dtypes.FP16, x="x", axes=b.const(np.array([1])), keep_dims=b.const(False))
    program = open_program(b.save(tmp_path, y))
    x = np.array([[300.0, 1.0]], np.float16)  # 300 squared overflows fp16
    assert program.run({"x": x / 4}, "native")[y] == program.run({"x": x / 4}, "declared")[y]
    assert np.isinf(program.run({"x": x}, "native")[y])


def test_weights_are_decompressed_when_the_program_opens(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP16, (1, 3))
    weight = b.op(
        "constexpr_blockwise_shift_scale",
        (2, 3),
        dtypes.FP16,
        data=b.const(np.array([[1, 2, 3], [-4, -5, 7]]), dtypes.INT4, blob=True),
        scale=b.const(np.array([[0.5], [2.0]]), dtypes.FP16, blob=True),
    )
    y = b.op("linear", (1, 2), dtypes.FP16, x="x", weight=weight)
    program = open_program(b.save(tmp_path, y))
    np.testing.assert_array_equal(dict(program.weights())[weight], [[0.5, 1, 1.5], [-8, -10, 14]])
    np.testing.assert_array_equal(program.run({"x": np.ones((1, 3), np.float16)})[y], [[3, -4]])


def test_only_enumerated_shapes_are_accepted(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (1, None), shapes=[(1, 2), (1, 4)])
    y = b.op("relu", (1, None), x="x")
    program = open_program(b.save(tmp_path, y))
    assert program.run({"x": np.ones((1, 4), np.float32)})[y].shape == (1, 4)
    with pytest.raises(Mismatch, match=r"shape \(1, 3\); expected one of \(1, 2\), \(1, 4\)"):
        program.run({"x": np.ones((1, 3), np.float32)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs \[\]"),
        ({"x": X, "z": X}, r"inputs \['x', 'z'\]"),
        ({"x": X[:1]}, r"shape \(1, 3\)"),
        ({"x": X.astype(np.int32)}, "input 'x' is int32"),
        ({"x": np.array([["a", "b", "c"]] * 2)}, "input 'x' is"),
    ],
)
def test_other_inputs_than_declared_are_refused(tmp_path, inputs, message):
    b, y = unary("relu")
    with pytest.raises(Mismatch, match=message):
        open_program(b.save(tmp_path, y)).run(inputs)


def test_an_integer_that_does_not_fit_the_input_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.INT32, (1,))
    program = open_program(b.save(tmp_path, b.op("abs", (1,), dtypes.INT32, x="x")))
    assert program.run({"x": np.array([-3], np.int64)})["v1"] == 3
    with pytest.raises(Mismatch, match="do not fit 'int32'"):
        program.run({"x": np.array([2**40])})


def test_an_unknown_operation_is_refused_by_name_output_and_function(tmp_path):
    b, y = unary("frobnicate")
    with pytest.raises(UnsupportedOp, match=r"op 'frobnicate' \(output 'v1', function 'main'\)"):
        open_program(b.save(tmp_path, y))


def test_an_unknown_parameter_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    y = b.op("relu", (2, 3), x="x", slope=b.const(1.0))
    with pytest.raises(UnsupportedOp, match=r"op 'relu'.*parameters \['slope'\]"):
        open_program(b.save(tmp_path, y))


def test_an_unknown_attribute_is_refused(tmp_path):
    b, y = unary("relu", attributes={"slope": (1.0, None)})
    with pytest.raises(UnsupportedOp, match=r"op 'relu'.*attributes \['slope'\]"):
        open_program(b.save(tmp_path, y))


def test_a_missing_parameter_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    with pytest.raises(Malformed, match=r"op 'add'.*\['y'\] are missing"):
        open_program(b.save(tmp_path, b.op("add", (2, 3), x="x")))


def test_an_unknown_setting_of_an_operation_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    y = b.op("gelu", (2, 3), x="x", mode=b.const("ROUGHLY"))
    with pytest.raises(UnsupportedOp, match="op 'gelu'.*mode 'ROUGHLY'; expected EXACT"):
        open_program(b.save(tmp_path, y)).run({"x": X})


def test_a_result_of_another_shape_than_declared_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    y = b.op("transpose", (2, 3), x="x", perm=b.const(np.array([1, 0])))
    with pytest.raises(Mismatch, match=r"op 'transpose'.*shape \(3, 2\); expected 'fp32\[2, 3\]'"):
        open_program(b.save(tmp_path, y)).run({"x": X})


def test_a_declared_type_that_does_not_follow_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    with pytest.raises(Mismatch, match=r"op 'relu'.*declared 'fp16\[2, 3\]'; expected element type 'fp32'"):
        open_program(b.save(tmp_path, b.op("relu", (2, 3), dtypes.FP16, x="x")))


def test_operands_of_different_types_are_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    y = b.op("add", (2, 3), x="x", y=b.const(np.ones(3), dtypes.FP16))
    with pytest.raises(Mismatch, match=r"op 'add'.*operands of types \['fp16', 'fp32'\]"):
        open_program(b.save(tmp_path, y))


def test_a_cycle_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    y = b.op("add", (2, 3), x="x", y="v2")
    with pytest.raises(Malformed, match="uses 'v2' before it is defined"):
        open_program(b.save(tmp_path, b.op("relu", (2, 3), x=y)))


def test_a_name_defined_twice_is_refused(tmp_path):
    b, y = unary("relu")
    b.block.operations.add().CopyFrom(b.block.operations[0])
    with pytest.raises(Malformed, match="defines 'v1' twice"):
        open_program(b.save(tmp_path, y))


def test_a_constant_of_another_type_than_its_output_is_refused(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    y = b.op("add", (2, 3), x="x", y=b.const(np.ones(3)))
    b.block.operations[0].outputs[0].type.tensorType.dimensions[0].constant.size = 2
    with pytest.raises(Malformed, match=r"op 'const'.*type 'fp32\[3\]'; expected 'fp32\[2\]'"):
        open_program(b.save(tmp_path, y))


@pytest.mark.parametrize("name", ["@model_path/../../secret", "/etc/passwd", "@model_path/weights/../weight.bin"])
def test_a_weight_file_outside_the_package_is_refused(tmp_path, name):
    b = Builder()
    b.input("x", dtypes.FP32, (2, 3))
    y = b.op("add", (2, 3), x="x", y=b.const(np.ones(3), blob=True))
    b.block.operations[0].attributes["val"].blobFileValue.fileName = name
    with pytest.raises(Malformed, match="expected @model_path/weights/NAME.bin"):
        open_program(b.save(tmp_path, y))


def test_an_intermediate_beyond_the_limit_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("stages.coreml.ops._limits.MAX_ELEMENTS", 32)
    b = Builder()
    b.input("x", dtypes.FP32, (1,))
    shape = b.const(np.array([8, 8]))
    y = b.op("fill", (8, 8), shape=shape, value=b.const(0.0))
    with pytest.raises(Mismatch, match="op 'fill'.*at most"):
        open_program(b.save(tmp_path, y)).run({"x": np.ones(1, np.float32)})


def test_a_result_is_let_go_when_its_last_reader_has_run(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP32, (1,))
    first = b.op("exp", (1,), x="x")
    second = b.op("exp", (1,), x=first)
    third = b.op("add", (1,), x=first, y=second)
    last = b.op("exp", (1,), x=third)
    made, alive = {}, {}

    def observe(_operation, named, _raw, stored):
        made[named.name] = weakref.ref(stored)
        alive[named.name] = {name for name, array in made.items() if array() is not None}

    open_program(b.save(tmp_path, last)).run({"x": np.zeros(1, np.float32)}, observe=observe)
    assert alive[third] == {first, second, third}
    assert alive[last] == {third, last}


def test_what_a_loop_reads_from_outside_lasts_until_the_loop_ends(tmp_path):
    b = Builder()
    x = b.input("x", dtypes.FP32, (1,))
    one, four = b.op("exp", (1,), x=x), b.const(np.array([4.0], np.float32))
    outer, loop = b.block, b.block.operations.add(type="while_loop")
    b.bind(loop, {"loop_vars": [x]})
    loop.outputs.add(name="y").type.CopyFrom(b.function.inputs[0].type)
    for kind, declared, operand in (("less", dtypes.BOOL, four), ("add", dtypes.FP32, one)):
        b.block = loop.blocks.add()
        variable = b.block.inputs.add(name=f"{kind}_x")
        variable.type.CopyFrom(b.function.inputs[0].type)
        b.block.outputs.append(b.op(kind, (1,), declared, x=variable.name, y=operand))
    b.block = outer
    assert open_program(b.save(tmp_path, "y")).run({"x": np.zeros(1, np.float32)})["y"] == 4


def stateful(tmp_path):
    b = Builder()
    b.input("x", dtypes.FP16, (2,))
    b.state("total", dtypes.FP16, (2,))
    old = b.op("read_state", (2,), dtypes.FP16, input="total")
    new = b.op("add", (2,), dtypes.FP16, x=old, y="x")
    b.bind(b.block.operations.add(type="write_state"), {"input": "total", "data": new})
    return open_program(b.save(tmp_path, b.op("read_state", (2,), dtypes.FP16, input="total")))


def test_a_state_outlives_a_call_and_belongs_to_its_holder(tmp_path):
    program = stateful(tmp_path)
    first, second = program.make_state(), program.make_state()
    x = np.array([1, 2], np.float16)
    program.run({"x": x}, state=first)
    np.testing.assert_array_equal(program.run({"x": x}, state=first)["v3"], [2, 4])
    np.testing.assert_array_equal(program.run({"x": x}, state=second)["v3"], [1, 2])


def test_a_stateful_program_without_its_state_is_refused(tmp_path):
    with pytest.raises(Mismatch, match=r"states \[\]; expected \['total'\]"):
        stateful(tmp_path).run({"x": np.ones(2, np.float16)})


def test_a_program_of_several_functions_opens_the_one_that_is_named(tmp_path):
    b, y = unary("relu")
    other = b.model.mlProgram.functions["other"]
    other.CopyFrom(b.function)
    other.block_specializations["CoreML8"].operations[0].type = "abs"
    other.block_specializations["CoreML8"].outputs.append(y)
    package = b.save(tmp_path, y)
    assert open_program(package).run({"x": X})[y].min() == 0
    assert open_program(package, "other").run({"x": X})[y].max() == 6
    with pytest.raises(Mismatch, match="no function 'third'; expected one of: main, other"):
        open_program(package, "third")


def test_another_kind_of_model_is_refused(tmp_path):
    b, y = unary("relu")
    b.model.neuralNetwork.SetInParent()
    with pytest.raises(UnsupportedOp, match="holds 'neuralNetwork'; expected an ML program"):
        open_program(b.save(tmp_path, y))
