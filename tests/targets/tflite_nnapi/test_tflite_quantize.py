"""What tflite-nnapi's precisions quantise, how near they stay to fp32, and what is an error."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ConversionError, InputError
from stages.injecting.catalogue import Subject
from stages.injecting.tflite_nnapi import ArtifactEditor
from stages.models.families import find
from stages.targets.tflite_nnapi import flatbuffer, lowering, normalisation, quantize
from tests.targets.tflite_models import FLOAT, PRECISIONS, STATIC, TARGET, agreement, lowered, run_all, utterances

pytestmark = pytest.mark.target


COSINES = {
    "static": 0.95,
    "static-small": 0.95,
    "static-whole": 0.95,
    "four-channel": 0.3,
    "four-block": 0.3,
    "mixed": 0.3,
}
"""Smallest cosine of healthy logits on a random model, 0.98 where not named: of four, some utterance always strays."""


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_agrees_with_fp32_at_every_signature(name, converted, artifacts):
    inputs = utterances(48, seed=2)
    parity = agreement(run_all(converted["bert"], inputs), run_all(artifacts[name], inputs))
    assert parity["cosine_similarity_min"] > COSINES.get(name, 0.98)
    assert parity["non_finite_count"] == 0
    assert (parity["max_abs_error"] > 0) == (name != "float")


@pytest.mark.parametrize("family", ["albert", "distilbert", "mobilebert"])
def test_every_family_survives_static_integers(family, converted, tmp_path):
    out, report = lowered(converted[family], "static", tmp_path)
    inputs = utterances(24, seed=2)
    parity = agreement(run_all(converted[family], inputs), run_all(out, inputs))
    assert parity["cosine_similarity_min"] > 0.9
    assert report["weights"]["INT8"] > 8


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("dynamic-tensor", 0.5),
        ("dynamic-channel", 0.55),
        ("weight-only-tensor", 0.5),
        ("static-small", 0.6),
        ("static-wide-small", 0.65),
        ("float16", 0.7),
        ("four-channel", 0.45),
        ("four-block", 0.4),
    ],
)
def test_narrow_weights_shrink_the_file(name, share, artifacts):
    sizes = {key: (artifacts[key] / flatbuffer.MODEL).stat().st_size for key in (name, "float")}
    assert sizes[name] < share * sizes["float"]


def test_float_32_is_the_converted_file(converted, artifacts):
    assert artifact.sha256(artifacts["float"] / flatbuffer.MODEL) == artifact.sha256(
        converted["bert"] / flatbuffer.MODEL
    )


def test_report_says_what_was_left_in_float(converted, tmp_path):
    _, report = lowered(converted["bert"], "static", tmp_path / "static")
    (table,) = report["weights_left_float_bytes"]
    assert table.startswith("bert/embeddings/word_embeddings")
    assert report["weights"] == {"FLOAT32": 1, "INT8": 14}
    assert report["calibration_utterances"]["length_16"] == 32 > report["calibration_utterances"]["length_8"] > 0
    _, small = lowered(converted["bert"], "static-small", tmp_path / "small")
    assert (small["weights_left_float_bytes"], small["weights"]) == ({}, {"INT8": 15})
    assert small["asked"]["activation_bits"] == 8


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("dynamic-tensor", "INT8"),
        ("four-block", "INT4"),
        ("float16", "FLOAT16"),
        ("weight-only-channel", "INT8"),
        ("static", "INT8"),
    ],
)
def test_a_layer_skipped_by_the_quantiser_is_an_error(name, dtype, converted, tmp_path, monkeypatch):
    original = lowering.recipe_of

    def skipping(precision, target, source):
        from ai_edge_quantizer.recipe_manager import RecipeManager

        manager = RecipeManager()
        manager.load_quantization_recipe(original(precision, target, source))
        manager.add_quantization_config("pooler", "FULLY_CONNECTED", algorithm_key="no_quantize")
        return manager.get_quantization_recipe()

    monkeypatch.setattr(lowering, "recipe_of", skipping)
    with pytest.raises(
        ConversionError, match=f"weight of FULLY_CONNECTED 'bert/pooler.* is FLOAT32.*; expected {dtype}"
    ):
        lowered(converted["bert"], name, tmp_path)


def sums_of(model):
    """Types of what a residual sum gives: an ADD of two computed tensors that a MEAN reads."""
    types = flatbuffer.tensor_types()
    for graph in model.subgraphs:
        operators = list(flatbuffer.operators_of(model, graph))
        averaged = {int(op.inputs[0]) for name, op in operators if name == "MEAN"}
        yield from (
            types[graph.tensors[op.outputs[0]].type]
            for name, op in operators
            if name == "ADD" and int(op.outputs[0]) in averaged
        )


@pytest.mark.parametrize(("name", "dtype"), [("static", "FLOAT32"), ("static-whole", "INT8")])
def test_normalisations_and_what_they_normalise_are_computed_as_asked(name, dtype, artifacts):
    model = flatbuffer.read(artifacts[name] / flatbuffer.MODEL)
    assert normalisation.types(model) == {dtype}
    found = list(sums_of(model))
    assert len(found) >= 2 * 5  # in each signature one of the embeddings, two of each layer
    assert set(found) == {dtype}


@pytest.mark.parametrize(("family", "some"), [("albert", True), ("distilbert", True), ("mobilebert", False)])
def test_normalisations_are_found_by_what_they_compute(family, some, converted):
    """MobileBERT's are a product and a sum, which integers bear."""
    assert bool(normalisation.scopes(flatbuffer.read(converted[family] / flatbuffer.MODEL))) == some


def test_a_normalisation_lowered_against_the_request_is_an_error(converted, tmp_path, monkeypatch):
    monkeypatch.setattr(normalisation, "scopes", lambda model: [])
    with pytest.raises(ConversionError, match="normalisations are computed in INT8; expected FLOAT32"):
        lowered(converted["bert"], "static", tmp_path)


@pytest.mark.parametrize(
    ("asked", "given", "message"),
    [
        ("static-small", "dynamic-tensor", "INT8 on FLOAT32 activations; expected INT8 on INT8 activations"),
        ("dynamic-tensor", "dynamic-channel", "has [0-9]+ scales; expected 1, for the tensor"),
        ("dynamic-tensor", "weight-only-tensor", "is INT8, expanded before use, on INT32 .*; expected INT8 on INT32"),
        ("static-small", "static", "EMBEDDING_LOOKUP .* is FLOAT32 on INT32 activations; expected INT8"),
        ("float", "dynamic-tensor", "is INT8 .*; expected FLOAT32"),
        ("float", "float16", "is FLOAT16, expanded before use, .*; expected FLOAT32"),
        ("four-channel", "dynamic-channel", "is INT8 on .*; expected INT4 on"),
        ("four-block", "four-channel", "has no blocks; expected a scale for every 32"),
        ("four-channel", "four-block", "has blocks of 32; expected a scale for every channel"),
        ("static-wide", "static", "INT8 on INT8 activations; expected INT8 on INT16 activations"),
    ],
)
def test_another_precision_than_asked_is_an_error(asked, given, message, artifacts):
    weights = flatbuffer.weights(flatbuffer.read(artifacts[given] / flatbuffer.MODEL))
    quantize.check_weights(weights, *PRECISIONS[given])
    with pytest.raises(ConversionError, match=message):
        quantize.check_weights(weights, *PRECISIONS[asked])


def test_a_float_activation_in_the_second_signature_alone_is_an_error(artifacts):
    from ai_edge_litert.schema_py_generated import TensorType

    model = flatbuffer.read(artifacts["static"] / flatbuffer.MODEL)
    graph = model.subgraphs[1]
    product = next(op for name, op in flatbuffer.operators_of(model, graph) if name == "FULLY_CONNECTED")
    graph.tensors[product.inputs[0]].type = TensorType.FLOAT32
    with pytest.raises(ConversionError, match="INT8 on FLOAT32 activations; expected INT8 on INT8 activations"):
        quantize.check_weights(flatbuffer.weights(model), STATIC, TARGET)


def test_a_file_without_weights_is_an_error():
    with pytest.raises(ConversionError, match="no FULLY_CONNECTED weight"):
        quantize.check_weights([], FLOAT, TARGET)


def test_static_logits_are_not_clipped_on_the_calibration_split(converted, artifacts):
    # A moving average of ranges, the toolchain's default, clips the largest logits.
    calibration = utterances(32, seed=1)
    reference, outputs = run_all(converted["bert"], calibration), run_all(artifacts["static"], calibration)
    step = np.ptp(reference) / 255
    assert outputs.max() > reference.max() - 12 * step
    assert outputs.min() < reference.min() + 12 * step


def test_a_mask_constant_of_ten_thousand_would_leave_int8_nothing_to_tell_scores_by(checkpoints, converted, tmp_path):
    # What `stages.models.mask` calibrates the constant for: attention scores share their integers with it.
    from safetensors.numpy import load_file

    far = tmp_path / "far"
    shutil.copytree(converted["bert"], far)
    editor = ArtifactEditor(far)
    checkpoint = load_file(checkpoints["bert"] / "model.safetensors")
    random = np.random.default_rng(0)
    subject = Subject(editor, checkpoint, mask_constant=32.0, heads=4, parts=find("bert").parts, random=random)
    subject.scalar(32.0).store(np.float32(1e4))
    editor.save()
    inputs, losses = utterances(48, seed=2), []
    reference = run_all(far, inputs)
    np.testing.assert_allclose(reference, run_all(converted["bert"], inputs), atol=1e-3 * np.ptp(reference))
    for name, source in (("near", converted["bert"]), ("large", far)):
        outputs = run_all(lowered(source, "static", tmp_path / name)[0], inputs)
        parity = agreement(reference, outputs)
        losses.append(parity["kl_divergence_mean"])
    assert losses[1] > 3 * losses[0]


def test_calibration_is_read_for_static_only(converted, artifacts, tmp_path):
    quantize.quantize(converted["bert"], PRECISIONS["dynamic-tensor"][0], {}, TARGET, tmp_path)
    again = artifact.sha256(tmp_path / flatbuffer.MODEL)
    assert again == artifact.sha256(artifacts["dynamic-tensor"] / flatbuffer.MODEL)


def test_a_signature_that_no_calibration_utterance_fits_is_refused(converted, tmp_path):
    with pytest.raises(InputError, match="no calibration utterance has 8 tokens or fewer"):
        quantize.quantize(converted["bert"], STATIC, utterances(8, shortest=10), TARGET, tmp_path)
