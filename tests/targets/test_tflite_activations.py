"""An activation that TFLite cannot express for NNAPI is refused by its name, before anything is lowered."""

import pytest

from stages.core.errors import Unsupported
from stages.schema.task import Task
from stages.targets.tflite_nnapi.convert import ACTIVATIONS_LEFT_OUT, convert
from tests.toys.targets import tflite

TASK = Task(name="classify", max_length=16, sequence_lengths=[16])
TARGET = tflite()


@pytest.mark.parametrize("name", ACTIVATIONS_LEFT_OUT)
def test_an_activation_that_nnapi_has_no_kernel_for_is_named(name, make_model, tmp_path):
    make_model("bert", hidden_act=name).save_pretrained(tmp_path)
    with pytest.raises(Unsupported, match=f"cannot express the activation '{name}': .*student.activation=gelu"):
        convert(tmp_path, TASK, TARGET, tmp_path)
    assert not list(tmp_path.glob("*.tflite"))


def test_every_family_is_asked_for_its_own_field(make_model, tmp_path):
    make_model("distilbert", activation="mish").save_pretrained(tmp_path)
    with pytest.raises(Unsupported, match="activation 'mish'"):
        convert(tmp_path, TASK, TARGET, tmp_path)
