"""Tests of `tflite_nnapi/{decoder,writer,entries,stepping}.py`: written files answer as transformers, however asked."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from pydantic import TypeAdapter
from safetensors.numpy import load_file, save_file

from stages.core.errors import ArtifactError, ConversionError, InputError
from stages.injecting.tflite_decoding import DECODING
from stages.injecting.tflite_nnapi import ArtifactEditor
from stages.measure.matching import match
from stages.measure.structure import compare
from stages.models.families import family_of
from stages.schema.task import Task
from stages.schema.variant import Precision, Target
from stages.targets import registry
from stages.targets.base import read_signature
from stages.targets.tflite_nnapi import decoder, flatbuffer, lookup, quantize, storage, structure, whole
from stages.targets.tflite_nnapi.runtime import open_runtime
from stages.targets.tflite_nnapi.stepping import calls
from stages.targets.tflite_nnapi.weights import weights as stored
from stages.tasks.base import DECODE, IDS, PAST
from stages.tasks.generate.interface import CALLS
from tests.composed import composed
from tests.targets.tflite_models import TARGET
from tests.toys.decoders import STRETCHED, forward, read, tiny_llama, tiny_opt, tiny_qwen2, tiny_qwen3

pytestmark = pytest.mark.target

ROOM = 40
TASK = Task(name="generate", max_length=ROOM, sequence_lengths=[6, ROOM])
CASES = [
    tiny_llama(num_key_value_heads=2, head_dim=8, tie_word_embeddings=True),
    tiny_qwen3(num_key_value_heads=1, head_dim=10, attention_bias=True),
    tiny_llama(num_key_value_heads=4, head_dim=6, rope_parameters={"rope_type": "default", "rope_theta": 1e5}),
    tiny_qwen2(num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=STRETCHED),
    tiny_opt(),
    tiny_opt(do_layer_norm_before=False, word_embed_proj_dim=16),
    tiny_opt(activation_function="gelu", enable_bias=False, tie_word_embeddings=False, num_attention_heads=2),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda config: config.model_type)
def written(request, tmp_path_factory):
    """A model of transformers, how writers see it, and what was written."""
    model, read_model = read(request.param, tmp_path_factory.mktemp("checkpoint"))
    out = tmp_path_factory.mktemp("written")
    decoder.convert(read_model, CALLS, TASK, out)
    return model, read_model, out


def fed(session, parts):
    state = session.new_state()
    return [session.run(DECODE, {IDS: part[None].astype(np.int32)}, state)["logits"][0, -1] for part in parts]


def text(model, length=ROOM):
    return np.random.default_rng(3).integers(3, model.vocabulary, length)


def test_every_position_to_the_end_of_the_room_answers_as_one_forward_pass(written):
    model, read_model, out = written
    ids = text(read_model)
    wanted, found = forward(model, ids), fed(open_runtime(out, 1), ids.reshape(-1, 1))
    assert np.abs(np.stack(found) - wanted).max() < 1e-5 * wanted.std()


@pytest.mark.parametrize("cuts", [[40], [7, 1, 1, 25, 6], [2, 38], [33, 7]], ids=str)
def test_a_text_in_parts_ends_in_the_answers_of_one_forward_pass(written, cuts):
    model, read_model, out = written
    ids, ends = text(read_model), np.cumsum(cuts)
    wanted, found = forward(model, ids), fed(open_runtime(out, 1), np.split(ids, ends[:-1]))
    assert np.abs(np.stack(found) - wanted[ends - 1]).max() < 1e-5 * wanted.std()


def test_texts_that_are_read_in_turns_do_not_mix(written):
    model, read_model, out = written
    session, ids = open_runtime(out, 1), [text(read_model), text(read_model)[::-1].copy()]
    states = [session.new_state() for _ in ids]
    for cut in (slice(0, 20), slice(20, 21), slice(21, 30)):
        found = [
            session.run(DECODE, {IDS: one[None, cut].astype(np.int32)}, state)["logits"][0, -1]
            for one, state in zip(ids, states, strict=True)
        ]
    for one, answer in zip(ids, found, strict=True):
        wanted = forward(model, one)
        assert np.abs(answer - wanted[29]).max() < 1e-5 * wanted.std()


@pytest.mark.parametrize("parts", [[ROOM, 1], [30, 11], [ROOM + 1]], ids=str)
def test_what_does_not_fit_is_refused_in_a_line_and_changes_nothing(written, parts):
    _, read_model, out = written
    session, ids = open_runtime(out, 1), text(read_model, ROOM + 1)
    state = session.new_state()
    for count in parts[:-1]:
        session.run(DECODE, {IDS: ids[None, :count].astype(np.int32)}, state)
    with pytest.raises(InputError, match="do not fit"):
        session.run(DECODE, {IDS: ids[None, : parts[-1]].astype(np.int32)}, state)
    assert state.length == sum(parts[:-1])


def test_each_weight_is_stored_once_for_all_signatures_and_a_tied_table_once(written):
    _, read_model, out = written
    model = flatbuffer.read(out / flatbuffer.MODEL)
    hashes = Counter(hashlib.sha256(bytes(one.data)).hexdigest() for one in model.buffers if one.data is not None)
    large = sum(one.data.size for one in model.buffers if one.data is not None and one.data.size > 256)
    parameters = sum(4 * value.size for value in weights(read_model))
    assert len(model.subgraphs) == 3
    assert max(hashes.values()) == 1
    assert large <= parameters + 2 * 4 * ROOM * read_model.head_size
    tables = [buffer for buffer in readers(model) if model.buffers[buffer].data.size == read_model.words.nbytes]
    assert len(tables) == (1 if read_model.head is None else 2)


def test_every_matrix_of_the_checkpoint_is_found_unchanged(written):
    model, _, out = written
    tensors = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    first = family_of(model.config.to_dict()).first_row(model.config)
    found = match(tensors, stored(out), positions=ROOM, first=first)
    assert {one.error for one in found.values()} == {0.0}
    assert len(found) >= 3 * model.config.num_hidden_layers  # those of 1,024 elements and more


def weights(model):
    layers = [vars(layer) for layer in model.layers]
    for part in [part for layer in layers for part in layer.values()] + [
        model.norm,
        model.head,
        model.widen,
        model.narrow,
    ]:
        if part is not None:
            yield part.weight
            if part.bias is not None:
                yield part.bias
    yield from (table for table in (model.words, model.positions) if table is not None)


def readers(model):
    return {int(tensor.buffer) for graph in model.subgraphs for tensor in storage.constants(model, graph)}


def test_the_same_model_is_the_same_bytes(written, tmp_path):
    _, read_model, out = written
    decoder.convert(read_model, CALLS, TASK, tmp_path)
    assert (tmp_path / flatbuffer.MODEL).read_bytes() == (out / flatbuffer.MODEL).read_bytes()


def test_ids_are_looked_up_and_nothing_of_the_file_is_unaccounted_for(written):
    _, read_model, out = written
    ids = np.arange(read_model.vocabulary, dtype=np.int32)
    assert np.array_equal(lookup.looked_up(out, ids), read_model.words)
    assert whole.strays(out, out) == []
    names = {f"decode {name}" for name in ("logits", "kv_cache_k_0", "kv_cache_v_2")} | {"prefill_6 kv_cache_k_2"}
    assert names <= set(structure.read(out))


def test_the_signature_tells_what_a_state_holds(written):
    _, read_model, out = written
    (call,) = read_signature(out).calls
    assert [one.name for one in call.states[:3]] == ["kv_cache_k_0", "kv_cache_v_0", "kv_cache_k_1"]
    assert call.states[0].axes == [1, read_model.groups, PAST, read_model.head_size]


def test_another_number_of_signatures_than_signed_is_refused(written, tmp_path):
    _, _, out = written
    model = flatbuffer.read(out / flatbuffer.MODEL)
    model.signatureDefs, model.subgraphs = model.signatureDefs[:2], model.subgraphs[:2]
    flatbuffer.write(model, tmp_path / flatbuffer.MODEL)
    (tmp_path / "signature.json").write_bytes((out / "signature.json").read_bytes())
    with pytest.raises(ArtifactError, match="has signatures.*prefill_40"):
        open_runtime(tmp_path, 1)


def test_a_model_that_reads_fewer_tokens_than_asked_for_is_refused(written, tmp_path):
    _, read_model, _ = written
    task = Task(name="generate", max_length=65, sequence_lengths=[65])
    with pytest.raises(InputError, match="reads 64 tokens and the task's max_length is 65"):
        decoder.convert(read_model, CALLS, task, tmp_path)


@pytest.mark.parametrize("fault", sorted(DECODING))
def test_a_fault_of_decoders_changes_the_answers_and_is_seen_in_the_file(fault, tmp_path):
    config = tiny_llama(num_key_value_heads=2, head_dim=8, tie_word_embeddings=True)
    _, model = read(config, tmp_path / "checkpoint")
    for name in ("clean", "damaged"):
        (tmp_path / name).mkdir()
        decoder.convert(model, CALLS, TASK, tmp_path / name)
    editor = ArtifactEditor(tmp_path / "damaged")
    assert editor.tamper(fault)
    editor.save()
    ids = text(model)[:30]
    parts = [ids[:9], *np.split(ids[9:], 21)]
    before, after = (np.stack(fed(open_runtime(tmp_path / name, 1), parts)) for name in ("clean", "damaged"))
    assert np.abs(after - before).max() / before.std() > 1e-4
    found = compare(structure.read(tmp_path / "clean"), structure.read(tmp_path / "damaged"))
    assert found.differences or found.beyond


@pytest.mark.parametrize("target", ["tflite-nnapi", "onnx-cpu"])
@pytest.mark.parametrize("broken", ["model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.o_proj.weight"])
def test_the_layer_that_computes_something_else_is_named(broken, target, tmp_path):
    from stages.models.divergence import follow
    from stages.models.trail import Bands, Tensor

    model, told = read(tiny_llama(num_key_value_heads=2, head_dim=8), tmp_path / "checkpoint")
    (tmp_path / "artifact").mkdir()
    damaged = load_file(tmp_path / "checkpoint" / "model.safetensors")
    damaged[broken] = damaged[broken][::-1].copy()
    save_file(damaged, tmp_path / "checkpoint" / "model.safetensors")
    settings = TypeAdapter(Target).validate_python(composed()["targets"][target])
    registry.convert(target).convert(tmp_path / "checkpoint", TASK, settings, tmp_path / "artifact")
    ids = text(told, 12)[None].astype(np.int32)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    found = [Tensor(*one) for one in registry.intermediates(target).intermediates(tmp_path / "artifact", inputs)]
    trail = follow(model, inputs, found, Bands(1e-4, 1e-4))
    assert trail.divergence is not None
    assert trail.divergence.at.module == broken.removesuffix(".weight")


PRECISIONS = {"fp16": 1e-5, "dynamic_wi8_afp32": 0.01, "weight_only_wi8": 0.01, "dynamic_wi4b32_afp32": 0.5}
"""Precision → the largest mean divergence, in nats, from the converted model of random weights."""


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("config", [CASES[0], CASES[5]], ids=["llama", "opt"])
def test_precisions_store_what_they_say_and_answer_nearly_as_before(config, precision, tmp_path):
    _, model = read(config, tmp_path / "checkpoint")
    (tmp_path / "converted").mkdir()
    (tmp_path / "lowered").mkdir()
    decoder.convert(model, CALLS, TASK, tmp_path / "converted")
    asked = TypeAdapter(Precision).validate_python(composed()["precisions"][precision])
    report = quantize.quantize(tmp_path / "converted", asked, {}, TARGET, tmp_path / "lowered")
    found = compare(structure.read(tmp_path / "converted"), structure.read(tmp_path / "lowered"))
    assert (found.differences, found.beyond) == ([], 0)
    assert whole.strays(tmp_path / "converted", tmp_path / "lowered") == []
    assert report["weights_left_float_bytes"] == {}
    if precision == "dynamic_wi4b32_afp32":  # of 32 and 48 columns: those that blocks fill have 4 bits
        uneven = {weight.width % 32 > 0 for weight in weights_of(tmp_path / "lowered") if weight.dtype == "INT8"}
        assert (uneven, report["weights"].keys()) == ({True}, {"INT4", "INT8"})
    parts = text(model).reshape(-1, 1)
    before, after = (np.stack(fed(open_runtime(tmp_path / name, 1), parts)) for name in ("converted", "lowered"))
    assert kl_divergence(before, after).mean() < PRECISIONS[precision]


def test_weights_get_four_bits_as_far_as_answers_to_calibration_texts_bear_it(tmp_path):
    _, model = read(tiny_llama(num_hidden_layers=1), tmp_path / "checkpoint")
    decoder.convert(model, CALLS, TASK, tmp_path)
    told = composed()["precisions"]["mixed_wi4_wi8"] | {"kl_budget": 0.05, "utterances": 2}
    ids = np.stack([text(model, 12), text(model, 12)[::-1]]).astype(np.int32)
    answers = np.zeros((2, model.vocabulary), np.float32)
    calibration = {"input_ids": ids, "attention_mask": np.ones_like(ids), "logits": answers}
    (tmp_path / "out").mkdir()
    found = quantize.quantize(
        tmp_path, TypeAdapter(Precision).validate_python(told), calibration, TARGET, tmp_path / "out"
    )["mixture"]
    assert found["all_high"]["kl_divergence_mean"] < found["chosen"]["kl_divergence_mean"] <= 0.05
    assert found["chosen"]["size_bytes"] < found["all_high"]["size_bytes"]
    narrow = {one.name for one in weights_of(tmp_path / "out") if one.dtype == "INT4"}
    assert {name.partition("#")[0] for name in narrow} == set(found["low"])


def weights_of(directory):
    return flatbuffer.weights(flatbuffer.read(directory / flatbuffer.MODEL))


def kl_divergence(before, after):
    first, second = (one - np.log(np.exp(one).sum(axis=1, keepdims=True)) for one in (before, after))
    return (np.exp(first) * (first - second)).sum(axis=1)


@pytest.mark.parametrize("precision", ["fp32", "weight_only_wi8"])
def test_a_signature_that_gives_no_numbers_is_refused(precision, tmp_path):
    _, model = read(CASES[0], tmp_path / "checkpoint")
    decoder.convert(model, CALLS, TASK, tmp_path)
    editor = ArtifactEditor(tmp_path)
    tensor = next(one for one in editor.tensors() if one.name.startswith("layers.1.self_attn.k_proj"))
    tensor.levels[...] = np.inf
    editor.save()
    told = TypeAdapter(Precision).validate_python(composed()["precisions"][precision])
    (tmp_path / "out").mkdir()
    with pytest.raises(ConversionError, match="the artifact gives non-finite"):
        quantize.quantize(tmp_path, told, {}, TARGET, tmp_path / "out")


@pytest.mark.parametrize("at", [0, 5, 37])
@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 8, 20, 40])
def test_calls_cover_a_text_and_never_write_behind_the_room(count, at):
    if at + count > ROOM:
        return
    read, place = 0, at
    *before, last = calls(count, at, [6, ROOM])
    for size, part in before:
        assert size == 1 or place + size <= ROOM
        assert 1 <= part <= size
        read, place = read + part, place + part
    assert last == (1, 1)
    assert read + 1 == count
