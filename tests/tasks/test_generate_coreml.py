"""A language model on coreml-metal is measured whole, and ships with what an app needs."""

import shutil

import numpy as np
import pytest
from pydantic import TypeAdapter

from stages import convert, parity, quantize
from stages.core import artifact
from stages.coreml.proto import model_file, read_model
from stages.injecting.coreml_decoding import DECODING
from stages.injecting.inject import open_editor
from stages.measure.structure import compare
from stages.releasing import card, contents, derived
from stages.schema.release import Release
from stages.schema.variant import Precision, Variant
from stages.targets import divergence, registry
from stages.targets.coreml_metal import structure, whole
from tests.composed import composed
from tests.toys.language_build import LENGTH, TASK

pytestmark = pytest.mark.target
TARGET = "coreml-metal"
HEAD = 8


@pytest.fixture(scope="module")
def made(build):
    """The converted model, the fp16 artifact, and what parity measures of it."""
    whole, out = composed(), build / TARGET
    told = {"task": TASK, "target": whole["targets"][TARGET]}
    convert.run(convert.Params.model_validate(told), build / "none", out / "converted")
    told = {"precision": whole["precisions"]["fp16"], "target": whole["targets"][TARGET]}
    quantize.run(quantize.Params.model_validate(told), out / "converted", build / "reference", out / "fp16")
    places = {"teacher": build / "teacher", "data": build / "data", "checkpoint": build / "none"}
    inputs = parity.Inputs(converted=out / "converted", reference=build / "reference", **places)
    parity.run(TARGET, out / "fp16", inputs, out / "parity")
    return out


def test_it_is_measured_whole_and_loses_what_half_precision_rounds(made):
    found = artifact.read_json(made / "parity/metrics.json")
    assert (found["status"], found["altered"], found["runtime"]) == ("measured", [], "reference-interpreted")
    assert found["structure"]["values"] == {"structure_difference_count": 0, "weights_beyond_count": 0}
    assert found["conversion"]["values"]["conversion_relative_max_error"] < 5e-5
    assert found["weights"]["values"]["conversion_weight_error_max"] == 0
    assert found["greedy"]["values"]["greedy_divergent_count"] == 0
    assert 0 < found["test"]["values"]["kl_divergence_mean"] < 1e-4


def test_an_epsilon_of_another_model_is_told_from_the_right_one(made, build, tmp_path):
    shutil.copytree(made / "converted", tmp_path / "converted")
    editor = open_editor(TARGET, tmp_path / "converted")
    editor.set_epsilon(1e-2)
    editor.save()
    ids = np.arange(1, LENGTH, dtype=np.int32)[None]
    runtime = registry.runtime(TARGET)
    sound, broken = (
        session.run("decode", {"input_ids": ids}, session.new_state())["logits"]
        for session in (runtime.open_runtime(place / "converted", threads=1) for place in (made, tmp_path))
    )
    assert np.abs(sound - broken).max() > 1e-4 * sound.std()


@pytest.mark.parametrize("kind", DECODING)
def test_what_is_done_to_a_decoder_changes_its_answers_and_is_seen(kind, made, tmp_path):
    shutil.copytree(made / "fp16", tmp_path / "broken")
    editor = open_editor(TARGET, tmp_path / "broken")
    assert editor.tamper(kind)
    editor.save()
    ids = np.arange(1, LENGTH, dtype=np.int32)[None]
    answers = []
    for place in (made / "fp16", tmp_path / "broken"):
        session = registry.runtime(TARGET).open_runtime(place, threads=1)
        state = session.new_state()
        parts = [session.run("decode", {"input_ids": part}, state)["logits"] for part in (ids[:, :9], ids[:, 9:])]
        answers.append(np.concatenate(parts))
    sound, broken = answers
    assert np.abs(sound - broken).max() > (0 if kind == "half_norm" else 0.05) * sound.std()
    found = compare(structure.read(made / "converted"), structure.read(tmp_path / "broken"))
    assert found.differences or found.beyond or whole.strays(made / "converted", tmp_path / "broken")


def test_turned_neighbours_are_right_where_a_head_is_stored_in_their_order(made, tmp_path):
    """As llama.cpp stores it: two such mistakes are none."""
    shutil.copytree(made / "converted", tmp_path / "turned")
    editor = open_editor(TARGET, tmp_path / "turned")
    assert editor.tamper("interleaved_rotary")
    rows = np.arange(HEAD).reshape(2, -1).T.reshape(-1)
    for tensor in editor.tensors():
        if tensor.name.endswith(("q_proj_weight", "k_proj_weight")):
            heads = tensor.value.reshape(-1, HEAD, tensor.value.shape[1])
            tensor.store(heads[:, rows].reshape(tensor.value.shape))
    editor.save()
    ids = np.arange(1, LENGTH, dtype=np.int32)[None]
    opened = [
        registry.runtime(TARGET).open_runtime(place, threads=1) for place in (made / "converted", tmp_path / "turned")
    ]
    sound, turned = (session.run("decode", {"input_ids": ids}, session.new_state())["logits"] for session in opened)
    np.testing.assert_allclose(turned, sound, rtol=0, atol=1e-5 * sound.std())


def test_what_every_operation_computes_can_be_asked_for(made):
    ids = np.arange(1, 9, dtype=np.int32)[None]
    asked = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    *_, (kind, name, logits) = registry.intermediates(TARGET).intermediates(made / "fp16", asked)
    session = registry.runtime(TARGET).open_runtime(made / "fp16", threads=1)
    wanted = session.run("decode", {"input_ids": ids}, session.new_state())["logits"]
    assert (kind, name) == ("cast", "logits")
    np.testing.assert_array_equal(logits, wanted)


def test_the_first_layer_that_goes_wrong_is_named(made, build, tmp_path):
    behind = {"checkpoint": build / "none", "reference": build / "reference", "parity": made / "parity"}
    sound = divergence.examine(divergence.Case(TARGET, made / "fp16", **behind))
    assert sound["conclusion"].startswith("no layer leaves its band on the 2 worst utterances")
    shutil.copytree(made / "fp16", tmp_path / "broken")
    editor = open_editor(TARGET, tmp_path / "broken")
    tensor = next(one for one in editor.tensors() if one.name.startswith("layers_1_mlp_up_proj"))
    tensor.store(np.zeros_like(tensor.value))
    editor.save()
    found = divergence.examine(divergence.Case(TARGET, tmp_path / "broken", **behind))
    assert (found["module"], found["before"]["module"]) == ("model.layers.1.mlp.up_proj", "model.layers.1.mlp.act_fn")


@pytest.fixture
def bundle(made, build, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "write", lambda *_: None)
    out = tmp_path / "bundle"
    shutil.copytree(made / "fp16", out, ignore=shutil.ignore_patterns("manifest.json", "quantization.json"))
    (out / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy2(build / "none" / name, out / "tokenizer")
    places = {"artifact": made / "fp16", "compressed": build / "none", "reference": build / "reference"}
    told = {"compression": "none", "target": TARGET, "precision": "fp16"}
    lowering = TypeAdapter(Precision).validate_python(composed()["precisions"]["fp16"])
    settings = Release(forms=["coreml"], golden="ids", required=True)
    variant = Variant(**told, required=True, release_not_measured=False)
    contents.add(out, "toy", variant, lowering, {}, {**places, "data": build / "data"}, settings)
    return out


def test_a_bundle_has_the_package_with_what_xcode_shows_and_a_sample(bundle):
    assert derived.differences(bundle) == []
    said = artifact.read_json(bundle / "limits.json")
    assert said["forms"].keys() == {"mlpackage", "coreml"}
    description = read_model(model_file(bundle / "coreml/model.mlpackage")).description
    features = [*description.input, *description.output, *description.state]
    assert [item.name for item in features][:3] == ["input_ids", "position", "logits"]
    assert all(item.shortDescription for item in features)
    assert dict(description.metadata.userDefined) == {"max_length": str(LENGTH), "stop_ids": "[0]"}
    assert artifact.read_json(bundle / "coreml/tokenizer/tokenizer_config.json")["add_bos_token"] is True
    assert artifact.read_json(bundle / "coreml/tokenizer/generation_config.json")["max_length"] == LENGTH
    sample = (bundle / "samples/Generate.swift").read_text(encoding="utf-8")
    assert all(f'"{name}"' in sample for name in ("input_ids", "position", "logits", "max_length", "stop_ids"))


def test_another_end_of_text_in_the_package_is_named(bundle):
    path = model_file(bundle / "coreml/model.mlpackage")
    model = read_model(path)
    model.description.metadata.userDefined["stop_ids"] = "[5]"
    path.write_bytes(model.SerializeToString(deterministic=True))
    (difference,) = derived.differences(bundle)
    assert "ends texts with [5], 'limits.json' with [0]" in difference
