"""Weights in several files come in as those in one do, or are refused in one line."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core.errors import InputError
from stages.models import importing
from stages.models.contents import INDEX
from stages.tasks.classify.model import HEAD
from tests.toys.classifiers import LABELS, LIMITS, published


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return published(tmp_path_factory.mktemp("shards") / "whole")


@pytest.fixture(scope="module")
def sharded(whole, tmp_path_factory):
    """The same model as transformers saves it where a file may have 20 kB."""
    out = published(tmp_path_factory.mktemp("sharded"))
    (out / "model.safetensors").unlink()
    model, _ = importing.read(whole, LABELS, 16, LIMITS, HEAD)
    model.save_pretrained(out, max_shard_size="20KB")
    assert len(list(out.glob("model-*.safetensors"))) > 2
    return out


@pytest.fixture
def given(sharded, tmp_path):
    return shutil.copytree(sharded, tmp_path / "given")


def test_the_model_is_the_one_that_was_saved(whole, sharded):
    wanted, _ = importing.read(whole, LABELS, 16, LIMITS, HEAD)
    found, _ = importing.read(sharded, LABELS, 16, LIMITS, HEAD)
    assert wanted.state_dict().keys() == found.state_dict().keys()
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in wanted.state_dict().items())


def test_what_was_read_is_named_for_the_record(whole, sharded):
    with importing.opened(str(sharded), None, LIMITS) as (_, files):
        assert {INDEX, *(path.name for path in sharded.glob("model-*"))} <= files.keys()
    with importing.opened(str(whole), None, LIMITS) as (_, files):
        assert INDEX not in files


def test_one_file_counts_where_both_lie_there(whole, given):
    shutil.copy(whole / "model.safetensors", given)
    next(given.glob("model-*")).write_bytes(b"never opened")
    importing.read(given, LABELS, 16, LIMITS, HEAD)


def test_shards_that_are_not_those_of_the_index_are_refused(given):
    first, second, *_ = sorted(given.glob("model-*"))
    kept = first.read_bytes()
    first.unlink()
    with pytest.raises(InputError, match=f"names '{first.name}', which is not there"):
        importing.read(given, LABELS, 16, LIMITS, HEAD)
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match=rf"{first.name}' (has|lacks) tensor .*saved together"):
        importing.read(given, LABELS, 16, LIMITS, HEAD)
    first.write_bytes(kept)
    tensors = load_file(second)
    save_file(tensors | {"more": torch.zeros(2)}, second)
    with pytest.raises(InputError, match=rf"{second.name}' has tensor 'more', and its index says otherwise"):
        importing.read(given, LABELS, 16, LIMITS, HEAD)
    save_file(tensors, second)
    first.write_bytes(kept[:-4])
    with pytest.raises(InputError, match="expected an intact safetensors file"):
        importing.read(given, LABELS, 16, LIMITS, HEAD)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": {"a": 3}}', "names '3' as a shard"),
        ('{"weight_map": {"a": "model.safetensors"}}', "names 'model.safetensors' as a shard"),
        ('{"weight_map": {"a": "x/model-00001-of-00002.safetensors"}}', "as a shard; expected names as 'model-0"),
        ('{"weight_map": {"a": "b", "a": "b"}}', "a name occurs twice"),
        ("{", "cannot read"),
    ],
)
def test_an_index_that_is_none_is_refused(given, content, said):
    (given / INDEX).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        importing.read(given, LABELS, 16, LIMITS, HEAD)


def test_all_shards_together_stay_within_the_limits(given):
    most = sum(path.stat().st_size for path in given.iterdir()) // 2
    with pytest.raises(InputError, match=r"expected at most .*teacher.limits"):
        importing.read(given, LABELS, 16, LIMITS.model_copy(update={"total_bytes": most}), HEAD)
