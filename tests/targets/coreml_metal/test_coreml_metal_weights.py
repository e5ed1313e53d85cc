"""What a package stores is the checkpoint's, rounded and no more."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from stages.injecting.catalogue import Subject
from stages.injecting.coreml_metal import ArtifactEditor
from stages.measure.matching import match
from stages.measure.structure import compare
from stages.models.families import find
from stages.targets import own_grid
from stages.targets.coreml_metal.structure import read
from stages.targets.coreml_metal.weights import weights
from stages.targets.coreml_metal.whole import strays
from stages.tasks.classify.faults import STORED
from tests.targets.coreml_models import PRECISIONS, TARGET, TASK, dense, tree
from tests.targets.faults_coreml import zero_coreml_layer


@pytest.mark.target
@pytest.mark.parametrize("name", ["fp32", "fp16", "wi8", "wi4b32", "static", "pal4", "pal6"])
def test_a_zeroed_layer_is_zero_and_nothing_else_changes(builds, name, tmp_path):
    shutil.copytree(builds.artifact / name, tmp_path / name)
    before = dense(tmp_path / name)
    zeroed = zero_coreml_layer(tmp_path / name).partition("_to_fp16")[0]
    after = dense(tmp_path / name)
    assert before[zeroed].any()
    assert not after[zeroed].any()
    assert all(np.array_equal(before[other], after[other]) for other in before if other != zeroed)


@pytest.mark.target
@pytest.mark.parametrize(
    ("name", "healthy"),
    [
        ("fp32", 0.9999),
        ("fp16", 0.9999),
        ("wi8", 0.995),
        ("wi4b32", 0.98),
        ("static", 0.99),
        ("pal6", 0.99),
        ("pal4", 0.97),
        ("pal4g16", 0.97),
        ("pal4s50", 0.9),
    ],
)
def test_the_comparison_sees_a_zeroed_layer_at_every_precision(builds, name, healthy, tmp_path):
    def cosines(directory):
        found = match(builds.tensors, weights(directory), positions=TASK.max_length)
        return sorted(one.cosine for one in found.values())

    assert cosines(builds.artifact / name)[0] > healthy
    shutil.copytree(builds.artifact / name, tmp_path / name)
    zero_coreml_layer(tmp_path / name)
    broken = cosines(tmp_path / name)
    assert broken[0] < 0.15
    assert broken[1] > healthy


@pytest.mark.target
@pytest.mark.parametrize("name", [name for name, precision in PRECISIONS.items() if precision.kind != "float"])
def test_every_weight_is_off_by_what_its_own_grid_explains_and_a_zeroed_one_by_more(builds, name, tmp_path):
    expected = own_grid.expected(TARGET.name, PRECISIONS[name].model_dump())

    def off(directory):
        found = match(builds.tensors, weights(directory), positions=TASK.max_length, expected=expected)
        return max(one.excess for one in found.values())

    assert off(builds.artifact / name) < 1.05  # conf/gate asks for 1.1
    shutil.copytree(builds.artifact / name, tmp_path / name)
    zero_coreml_layer(tmp_path / name)
    assert off(tmp_path / name) > 1.5


@pytest.mark.target
def test_a_conversion_holds_the_weights_of_the_checkpoint(builds):
    found = match(builds.tensors, weights(builds.converted), positions=TASK.max_length)
    assert max(one.error for one in found.values()) == 0


@pytest.mark.target
@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_is_its_conversion_rounded(builds, name):
    found = compare(read(builds.converted), read(builds.artifact / name))
    assert (found.differences, found.beyond) == ([], 0)
    assert len(found.weights) > 10
    assert strays(builds.converted, builds.artifact / name) == []


@pytest.mark.target
@pytest.mark.parametrize("fault", ["zeroed_head", "doubled_channel", "swapped_rows", "poisoned_weight", "flipped_bit"])
@pytest.mark.parametrize("name", ["wi4b32", "pal4g16", "pal4s50"])
def test_a_fault_in_what_is_stored_is_beyond_rounding(builds, name, fault, tmp_path):
    shutil.copytree(builds.artifact / name, tmp_path / name)
    editor = ArtifactEditor(tmp_path / name)
    STORED[fault](
        Subject(
            editor,
            builds.tensors,
            mask_constant=1e4,
            heads=4,
            parts=find("bert").parts,
            random=np.random.default_rng(1),
        )
    )
    editor.save()
    found = compare(read(builds.converted), read(tmp_path / name))
    assert found.beyond or found.differences


@pytest.mark.target
@pytest.mark.parametrize("name", PRECISIONS)
def test_an_artifact_opened_for_damage_and_saved_is_unchanged(builds, name, tmp_path):
    shutil.copytree(builds.artifact / name, tmp_path / name)
    ArtifactEditor(tmp_path / name).save()
    assert tree(tmp_path / name) == tree(builds.artifact / name)
