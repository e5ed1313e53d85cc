import copy

import numpy as np
import pytest

from stages.coreml import open_program
from stages.coreml.calibration import calibrate, standing_in_for_predict
from stages.coreml.divergence import compare, relative_error

pytestmark = pytest.mark.target


@pytest.fixture(scope="module")
def bert(subjects):
    from benchmarks.coreml_subjects import tiny_bert
    from stages.models.intermediates import module_outputs

    model, run = tiny_bert(), subjects["fp32"].runs[0]
    return model, run, module_outputs(model, run), subjects["fp32"]


def test_a_faithful_program_stays_in_the_band_everywhere(bert):
    _, run, reference, subject = bert
    found = compare(open_program(subject.package), run, subject.checkpoint, reference, {"logits": subject.expected[0]})
    assert len(found.stretches) > 15
    assert found.first_beyond(2e-6) is None


@pytest.mark.parametrize(
    "module", ["bert.encoder.layer.0.attention.self.value", "bert.encoder.layer.1.intermediate.dense", "classifier"]
)
def test_the_first_divergence_names_the_module_that_differs(bert, module):
    from stages.models.intermediates import module_outputs

    model, run, _, subject = bert
    changed = copy.deepcopy(model)
    changed.get_submodule(module).bias.data += 0.5
    found = compare(
        open_program(subject.package),
        run,
        subject.checkpoint,
        module_outputs(changed, run),
        {"logits": subject.expected[0]},
    )
    first = found.first_beyond(1e-4)
    assert first is not None
    assert first.module == module
    assert first.operation == "linear"
    assert first.operations[-1].startswith("linear ")


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
