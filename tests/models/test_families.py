import subprocess
import sys

import pytest

from stages.core.errors import ConfigError, InputError
from stages.models.families import family_of, find
from stages.models.shapes import student_config, teacher_config
from stages.schema.model import Shape, TrainTeacher

TRAINING = {
    "epochs": 1.0,
    "min_steps": 1,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "warmup_fraction": 0.1,
    "label_smoothing": 0.0,
    "token_masking": 0.0,
    "dropout": 0.0,
    "seed": 0,
}
SHAPE = {"layers": 3, "hidden_size": 64, "heads": 4, "ffn_size": 96, "activation": "quick_gelu"}


def scratch(family, **changes):
    fields = {"kind": "train", "family": family, "vocabulary_size": 99, "training": TRAINING, "licence": "x"}
    return TrainTeacher.model_validate({**fields, **SHAPE, **changes})


def built(config):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_config(config)


def test_a_scratch_teacher_of_every_family_has_the_shape_asked_for(family):
    config = teacher_config(scratch(family), 50, 16, ["a", "b", "c"])
    fields = find(family)
    assert family_of(config) == fields
    assert getattr(config, fields.layers) == 3
    assert getattr(config, fields.ffn_size) == 96
    assert getattr(config, fields.activation) == "quick_gelu"
    assert config.id2label == {0: "a", 1: "b", 2: "c"}
    head = built(config).get_submodule(fields.head)
    assert (config.num_labels, head.out_features, head.in_features) == (3, 3, 64)
    assert fields.positions(config) == 16
    assert max(value or 0 for name, value in config.to_dict().items() if name.endswith("_token_id")) < 50


def test_a_narrower_student_of_every_family_builds(family, make_model):
    teacher = make_model(family)
    shape = Shape(kind="shape", layers=1, hidden_size=16, heads=2, ffn_size=24, activation="relu", pieces=None)
    config = student_config(teacher.config, shape)
    student = built(config)
    assert family_of(config).name == family
    assert config.id2label == teacher.config.id2label
    assert student.get_submodule(find(family).head).in_features == 16
    assert student.num_parameters() < teacher.num_parameters()


def test_a_mobilebert_student_keeps_the_teachers_ratio_of_widths(make_model):
    teacher = make_model("mobilebert", hidden_size=32, intra_bottleneck_size=16)
    shape = Shape(kind="shape", layers=1, hidden_size=16, heads=2, ffn_size=24, activation="relu", pieces=None)
    config = student_config(teacher.config, shape)
    assert (config.intra_bottleneck_size, config.true_hidden_size) == (8, 8)


def test_heads_that_do_not_divide_the_width_are_refused(family):
    with pytest.raises(ConfigError, match="5 heads do not divide"):
        # Past the schema, which refuses it first: MobileBERT's attention is narrower than its hidden_size.
        teacher_config(scratch(family).model_copy(update={"heads": 5}), 50, 16, ["a", "b"])


def test_another_family_is_refused_naming_the_supported_ones():
    from transformers import GPT2Config

    with pytest.raises(InputError, match="family 'gpt2'; expected one of: albert, bert, .*"):
        family_of(GPT2Config())


def test_what_is_known_of_a_family_takes_neither_torch_nor_transformers():
    """The report, parity and the faults ask too."""
    program = "import sys; from stages.models import families; [families.find(one) for one in families.names()]; "
    program += "print(*({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
