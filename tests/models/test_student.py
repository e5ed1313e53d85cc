import pytest
import torch

from stages.core.errors import ConfigError
from stages.models import student
from stages.models.families import find
from stages.schema.model import Shape


def shape_of(model, family, **changes):
    names, config = find(family), model.config
    same = {
        "layers": getattr(config, names.layers),
        "hidden_size": getattr(config, names.hidden_size),
        "heads": getattr(config, names.heads),
        "ffn_size": getattr(config, names.ffn_size),
    }
    return Shape(kind="shape", activation="quick_gelu", pieces=None, **{**same, **changes})


def test_a_student_of_the_teachers_shape_is_the_teacher(family, make_model):
    teacher = make_model(family)
    built = student.build(teacher, shape_of(teacher, family), seed=1)
    given = teacher.state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in built.state_dict().items())


def test_a_shallower_student_starts_from_evenly_spaced_layers(make_model):
    teacher = make_model("bert", num_hidden_layers=4)
    built = student.build(teacher, shape_of(teacher, "bert", layers=2), seed=1)
    assert torch.equal(
        built.bert.encoder.layer[0].output.dense.weight, teacher.bert.encoder.layer[1].output.dense.weight
    )
    assert torch.equal(
        built.bert.encoder.layer[1].output.dense.weight, teacher.bert.encoder.layer[3].output.dense.weight
    )


def test_narrower_word_embeddings_keep_the_directions_of_largest_variance():
    torch.manual_seed(0)
    plane = torch.randn(50, 2) @ torch.randn(2, 8) + 3
    kept = (plane - plane.mean(0)) @ student.principal_directions(plane, 2)
    assert kept.std().item() == pytest.approx(student.EMBEDDING_STD, rel=1e-4)
    centred = plane - plane.mean(0)
    ratio = torch.cdist(kept, kept) / torch.cdist(centred, centred)
    inside = ratio[~torch.eye(50, dtype=torch.bool)]
    torch.testing.assert_close(inside, inside.mean().expand_as(inside), rtol=1e-2, atol=0)


def test_positions_and_words_are_narrowed_into_the_same_space(make_model):
    teacher = make_model("bert")
    built = student.build(teacher, shape_of(teacher, "bert", hidden_size=16, heads=2), seed=1)
    wide, narrow = teacher.bert.embeddings, built.bert.embeddings
    directions = student.principal_directions(wide.word_embeddings.weight, 16)
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        source = getattr(wide, name).weight
        torch.testing.assert_close(getattr(narrow, name).weight, (source - source.mean(0)) @ directions)


def test_the_seed_decides_what_no_teacher_tensor_fits(family, make_model):
    teacher = make_model(family)
    shape = shape_of(teacher, family, hidden_size=16, heads=2)
    first, again, other = (student.build(teacher, shape, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_heads_that_do_not_divide_the_width_are_refused(make_model):
    teacher = make_model("bert")
    with pytest.raises(ConfigError, match="3 heads do not divide an attention of width 16"):
        student.build(teacher, shape_of(teacher, "bert", hidden_size=16).model_copy(update={"heads": 3}), seed=1)
