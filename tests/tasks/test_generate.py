"""A language model from outside is taken in, referenced, written as ONNX, lowered and measured, token by token."""

import shutil

import numpy as np
import pytest

from stages import convert
from stages.core import artifact, splits
from stages.core.errors import ConversionError, InputError
from stages.injecting.catalogue import NotApplicable, Subject, swapped_query_and_key
from stages.injecting.inject import open_editor
from stages.models import checkpoint
from stages.models.families import find
from stages.models.heads import check_family
from stages.models.settings import adopt
from stages.targets import registry
from stages.targets.base import read_signature
from stages.tasks import registry as tasks
from tests.composed import composed
from tests.toys.language_build import LENGTH, TASK, lowered, taught

pytestmark = pytest.mark.target


def test_items_are_the_tokens_that_another_one_follows(build):
    split = artifact.read_arrays(build / "reference/test.npz")
    sizes, case = split["attention_mask"].sum(axis=1), tasks.exercise("generate").case(split)
    assert (np.bincount(case) == sizes - 1).all()
    assert len(split["labels"]) == len(split["logits"]) == (sizes - 1).sum()
    for row, size in enumerate(sizes):
        assert (split["labels"][case == row] == split["input_ids"][row, 1:size]).all()


def test_a_text_of_no_token_or_of_one_has_no_items():
    mask = np.int32([[0, 0, 0], [1, 0, 0], [1, 1, 1]])
    assert tasks.exercise("generate").case({"attention_mask": mask}).tolist() == [2, 2]


def test_the_score_is_the_perplexity_that_transformers_has(build):
    import torch

    model, tokenizer = checkpoint.load_model(build / "teacher"), checkpoint.load_tokenizer(build / "teacher")
    losses = []
    for text in splits.read_split(build / "data", "test").texts:
        ids = torch.tensor([tokenizer(text).input_ids[:LENGTH]])
        with torch.inference_mode():
            losses.append((float(model(input_ids=ids, labels=ids).loss), ids.shape[1] - 1))
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    scores = artifact.read_json(build / "teacher/evaluation.json")
    assert scores["perplexity"] == pytest.approx(np.exp(mean), rel=1e-5)
    low, high = scores["perplexity_interval"]
    assert low < scores["perplexity"] < high
    assert scores["n"] == sum(count for _, count in losses)


@pytest.mark.parametrize(
    ("precision", "kl"),
    [
        ("fp32", 1e-9),
        ("fp16", 1e-4),
        ("weight_only_wi8", 1e-2),
        ("dynamic_wi8_afp32", 1e-2),
        ("weight_only_wi4b32", 1.0),
        ("dynamic_wi4b32_afp32", 1.0),
        ("gptq_wi4b32_afp32", 1.0),
    ],
)
def test_every_precision_of_onnx_is_measured_whole_and_loses_what_it_rounds(build, precision, kl):
    _, found, records = lowered(build, precision)
    assert (found["status"], found["altered"]) == ("measured", [])
    assert found["structure"]["values"] == {"structure_difference_count": 0, "weights_beyond_count": 0}
    assert found["conversion"]["values"]["conversion_relative_max_error"] < 5e-5
    assert found["weights"]["values"]["conversion_weight_error_max"] == 0
    values = found["test"]["values"]
    assert 0 <= values["kl_divergence_mean"] < kl
    assert values["perplexity_increase_to_reference"] == pytest.approx(0, abs=2 * kl + 1e-6)
    assert records["test"].case.max() + 1 == found["test"]["texts"]["perplexity"]


def test_how_a_text_comes_in_changes_nothing(build):
    _, found, _ = lowered(build, "fp32")
    assert set(found["form"]["forms"]) == {"at_once", "in_parts"}
    assert found["form"]["values"]["form_relative_error"] < 1e-5


def test_a_session_continues_its_text_and_no_other_up_to_the_room_there_is(build):
    artifact_dir, _, _ = lowered(build, "fp32")
    session = registry.runtime("onnx-cpu").open_runtime(artifact_dir, threads=1)
    ids = np.arange(1, LENGTH + 1, dtype=np.int32)[None]

    def fed(state, *parts):
        return [session.run("decode", {"input_ids": ids[:, part]}, state)["logits"] for part in parts][-1]

    one, other = session.new_state(), session.new_state()
    whole = fed(session.new_state(), slice(0, 9))
    fed(other, slice(3, 20))
    np.testing.assert_allclose(fed(one, slice(0, 4), slice(4, 9)), whole, atol=1e-5)
    fed(one, slice(9, LENGTH))
    with pytest.raises(InputError, match=f"1 tokens do not fit behind {LENGTH}; expected at most {LENGTH} in all"):
        fed(one, slice(0, 1))


def test_a_batch_and_a_mask_that_could_hide_padding_are_refused_in_a_line(build):
    artifact_dir, _, _ = lowered(build, "fp32")
    session = registry.runtime("onnx-cpu").open_runtime(artifact_dir, threads=1)
    ids = np.ones((2, 3), np.int32)
    with pytest.raises(InputError, match=r"'input_ids' is int32 \[2, 3\]; expected int32 \[1, sequence\]"):
        session.run("decode", {"input_ids": ids}, session.new_state())
    with pytest.raises(InputError, match=r"'attention_mask', 'input_ids'.*; expected exactly \['input_ids'\]"):
        session.run("decode", {"input_ids": ids[:1], "attention_mask": ids[:1]}, session.new_state())


def test_the_reference_writes_what_transformers_does_with_the_lead_of_each_token(build):
    import torch

    written = artifact.read_arrays(build / "reference/greedy.npz")
    assert written["prompt"].tolist() == ["", "The", "1 + 1 =", "", ""]
    assert written["shown"].tolist() == [True, True, True, False, False]
    model = checkpoint.load_model(build / "teacher")
    for ids, size, margin in zip(written["ids"], written["size"], written["margin"], strict=True):
        given = torch.tensor([ids[:size].tolist()])
        rest = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "max_length": LENGTH}
        assert model.generate(given, attention_mask=torch.ones_like(given), **rest)[0].tolist() == ids.tolist()
        with torch.inference_mode():
            best = model(torch.tensor([ids.tolist()]), use_cache=False).logits[0].topk(2).values
        lead = (best[:, 0] - best[:, 1])[size - 1 : -1].numpy()
        np.testing.assert_allclose(margin[size:], lead, atol=1e-4)
        assert not margin[:size].any()


def test_text_that_an_artifact_writes_by_itself_is_the_references(build):
    _, found, _ = lowered(build, "fp32")
    assert found["greedy"]["values"] == {"greedy_divergent_count": 0, "greedy_equal_share": 1.0}
    written = artifact.read_arrays(build / "reference/greedy.npz")
    assert found["greedy"]["counts"]["greedy_divergent_count"] == (LENGTH - written["size"]).sum()
    _, found, _ = lowered(build, "weight_only_wi4b32")
    assert 0 <= found["greedy"]["values"]["greedy_equal_share"] < 1


def test_another_token_counts_where_the_references_leads_and_not_at_a_tie(build):
    artifact_dir, _, _ = lowered(build, "fp32")
    session, written = registry.runtime("onnx-cpu").open_runtime(artifact_dir, 1), dict(
        artifact.read_arrays(build / "reference/greedy.npz")
    )  # fmt: skip
    size, last = int(written["size"][0]), LENGTH - 1
    right = int(written["ids"][0, last])
    written["ids"][0, last] = (right + 1) % 320
    for margin, count in ((0.5, 1), (0.005, 0)):
        written["margin"][0, last] = margin
        found = tasks.exercise("generate").greedy(session, written, spread=1.0)
        assert found["values"]["greedy_divergent_count"] == count
        assert found["values"]["greedy_equal_share"] == pytest.approx(1 - 1 / (LENGTH - size) / len(written["ids"]))
        said = f"text 0, token {last}: {right} where {(right + 1) % 320} leads by 0.5 of the spread"
        assert found.get("first") == (said if count else None)


def test_the_signature_names_what_clients_of_language_models_look_for(build):
    (call,) = read_signature(build / "converted").calls
    assert [tensor.name for tensor in call.states] == [
        f"past_key_values.{layer}.{part}" for layer in range(2) for part in ("key", "value")
    ]
    assert all(tensor.axes == [1, 2, "past", 8] for tensor in call.states)


def test_queries_and_keys_of_different_sizes_cannot_change_places(build):
    from safetensors.numpy import load_file

    artifact_dir, _, _ = lowered(build, "weight_only_wi4b32")
    parts, tensors = find("llama").parts, load_file(build / "none/model.safetensors")
    editor = open_editor("onnx-cpu", artifact_dir)
    with pytest.raises(NotApplicable, match="queries and keys have weights of different shapes"):
        swapped_query_and_key(Subject(editor, tensors, 0.0, 4, parts, np.random.default_rng(0)))


def test_what_no_kernel_takes_is_refused_in_a_line(build, tmp_path):
    told = {"task": {**TASK, "max_length": 64, "sequence_lengths": [64]}, "target": composed()["targets"]["onnx-cpu"]}
    with pytest.raises(InputError, match="the model reads 48 tokens and the task's max_length is 64"):
        convert.run(convert.Params.model_validate(told), build / "none", tmp_path / "out")
    told = {"task": TASK, "target": {**composed()["targets"]["onnx-cpu"], "opset": 17}}
    with pytest.raises(ConversionError, match="opset is 17; expected 20 or later for a decoder"):
        convert.run(convert.Params.model_validate(told), build / "none", tmp_path / "out")


def test_an_encoder_is_no_language_model_and_no_decoder_classifies(build, given, make_model, tmp_path):
    encoder = tmp_path / "encoder"
    shutil.copytree(given, encoder)
    make_model("bert").save_pretrained(encoder)
    with pytest.raises(InputError, match="family 'bert', which this task does not take; expected one of: llama, opt"):
        taught(build / "data", encoder, tmp_path / "teacher")
    with pytest.raises(
        InputError, match="family 'llama', which this task does not take; expected one of: albert, bert"
    ):
        check_family(given / "config.json", find("llama"), tasks.model("classify").HEAD)


def test_what_no_writer_can_leave_out_is_refused_when_it_comes_in(tmp_path):
    from transformers import OPTConfig

    OPTConfig(architectures=["OPTForCausalLM"], _remove_final_layer_norm=True).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has _remove_final_layer_norm: true; expected false"):
        adopt(tmp_path / "config.json", tasks.model("generate").HEAD)
