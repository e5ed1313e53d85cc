import numpy as np
import pytest

from benchmarks.coreml_edit import relative_error
from stages.coreml import open_program
from stages.coreml.calibration import calibrate, standing_in_for_predict

pytestmark = pytest.mark.target


def test_an_error_that_is_not_a_number_is_beyond_every_band():
    assert not relative_error(np.array([np.nan]), np.ones(1)) <= 1e9


def test_calibration_covers_every_tensor_over_all_samples(subjects):
    program = open_program(subjects["fp16"].package)
    both = calibrate(program, subjects["fp16"].runs)
    one = calibrate(program, subjects["fp16"].runs[:1])
    assert len(one) > 40
    assert all(both[name][0] <= low and both[name][1] >= high for name, (low, high) in one.items())
    assert both != one


def test_activations_quantise_on_linux_with_the_executor_in_place_of_predict(subjects, tmp_path):
    from stages.targets.coreml_metal import toolchain

    ct = toolchain.load_with_torch()
    import coremltools.optimize.coreml as cto
    from coremltools.optimize.coreml import experimental

    package = subjects["fp16"].package
    each = experimental.OpActivationLinearQuantizerConfig(mode="linear_symmetric")
    config = cto.OptimizationConfig(op_type_configs={"linear": each, "matmul": each})
    model = ct.models.MLModel(str(package), skip_model_load=True)
    with standing_in_for_predict(open_program(package)):
        quantised = experimental.linear_quantize_activations(model, config, list(subjects["fp16"].runs))
    quantised.save(str(tmp_path / "static.mlpackage"))
    program = open_program(tmp_path / "static.mlpackage")
    kinds = [operation.type for operation in program.function.block.operations]
    assert kinds.count("quantize") == kinds.count("dequantize") > 10
    run, expected = subjects["fp16"].runs[0], subjects["fp16"].expected[0]
    assert relative_error(program.run(run)["logits"], expected) < 0.3
