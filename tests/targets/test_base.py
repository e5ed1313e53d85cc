"""Signatures, padding and sessions, shared by all targets."""

import json

import numpy as np
import pytest

from stages.core.errors import ArtifactError, InputError, Unsupported
from stages.schema.task import Task
from stages.targets.base import Opened, example, one_by_one, only, read_signature, write_signature
from stages.tasks.base import BATCH, FORWARD, SEQUENCE, Tensor, encoder
from stages.tasks.classify.interface import CALLS

TASK = Task(name="classify", max_length=16, sequence_lengths=[8, 16])
TAGS = encoder(Tensor(name="tags", dtype="float32", axes=[BATCH, SEQUENCE, "classes"]))
STATE = Tensor(name="cache", dtype="float32", axes=[1, 16])


def signed(directory, *calls, dynamic=False):
    write_signature(directory, TASK, calls or [one_by_one(CALLS[0])], dynamic=dynamic, pad_token_id=3)
    return read_signature(directory)


def utterance(length, dtype=np.int32):
    return {"input_ids": np.full((1, length), 7, dtype), "attention_mask": np.ones((1, length), dtype)}


@pytest.mark.parametrize(("length", "expected"), [(1, 8), (8, 8), (9, 16), (16, 16)])
def test_padding_takes_the_smallest_length_that_fits(length, expected, tmp_path):
    padded = signed(tmp_path).padded(FORWARD, utterance(length))
    assert padded["input_ids"].tolist() == [[7] * length + [3] * (expected - length)]
    assert padded["attention_mask"].tolist() == [[1] * length + [0] * (expected - length)]
    assert {array.dtype for array in padded.values()} == {np.dtype(np.int32)}
    assert signed(tmp_path).padded(FORWARD, utterance(length), [16])["input_ids"].shape == (1, 16)


def test_an_utterance_longer_than_every_length_is_refused(tmp_path):
    with pytest.raises(InputError, match="17 tokens do not fit; expected at most 16"):
        signed(tmp_path).padded(FORWARD, utterance(17))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": np.ones((1, 4), np.int32)}, r"inputs are \['input_ids'\]; expected exactly"),
        (utterance(4, np.int64), "'input_ids' is int64"),
        ({**utterance(4), "attention_mask": np.ones((1, 3), np.int32)}, r"'attention_mask' is int32 \[1, 3\]"),
        ({name: array.repeat(2, axis=0) for name, array in utterance(4).items()}, r"\[2, 4\]; expected int32 \[1, seq"),
        ({name: array[0] for name, array in utterance(4).items()}, r"'input_ids' is int32 \[4\]"),
        (utterance(0), r"'input_ids' is int32 \[1, 0\]"),
    ],
)
def test_inputs_of_another_type_or_shape_are_refused(inputs, message, tmp_path):
    with pytest.raises(InputError, match=message):
        signed(tmp_path).padded(FORWARD, inputs)


def test_a_signature_is_read_as_written(tmp_path):
    signature = signed(tmp_path, CALLS[0], dynamic=True)
    assert signature.call(FORWARD) == CALLS[0]
    assert (signature.task, signature.sequence_lengths, signature.tokens.pad) == ("classify", [8, 16], 3)
    with pytest.raises(InputError, match="no call 'decode'; expected one of: forward"):
        signature.call("decode")


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_signature_of_an_earlier_release_reads_as_todays(tmp_path, dynamic):
    today = signed(tmp_path, CALLS[0] if dynamic else one_by_one(CALLS[0]), dynamic=dynamic)
    first = {"inputs": ["input_ids", "attention_mask"], "outputs": ["logits"], "sequence_lengths": [8, 16]}
    (tmp_path / "signature.json").write_text(
        json.dumps({**first, "dynamic": dynamic, "pad_token_id": 3}), encoding="utf-8"
    )
    assert read_signature(tmp_path) == today


def test_a_missing_signature_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read .*signature\.json"):
        read_signature(tmp_path)


@pytest.mark.parametrize("content", [{"inputs": ["input_ids"]}, {"task": "classify"}])
def test_a_signature_without_its_keys_is_refused(tmp_path, content):
    (tmp_path / "signature.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not a signature: missing key"):
        read_signature(tmp_path)


def test_answers_for_padding_are_cut_off(tmp_path):
    def execute(call, inputs, state):
        assert state is None
        return {"tags": inputs["input_ids"][..., None].repeat(5, axis=2).astype(np.float32)}

    for batch, dynamic in ((1, False), (2, True)):
        signature = signed(tmp_path, TAGS if dynamic else one_by_one(TAGS), dynamic=dynamic)
        opened = Opened("numpy", signature, execute, batches=dynamic)
        inputs = {name: array.repeat(batch, axis=0) for name, array in utterance(3).items()}
        np.testing.assert_array_equal(opened.run(FORWARD, inputs)["tags"], np.full((batch, 3, 5), 7))
        assert opened.new_state() is None


def test_states_are_made_by_the_runtime_or_refused(tmp_path):
    signature = signed(tmp_path, CALLS[0].model_copy(update={"states": [STATE]}), dynamic=True)

    def execute(call, inputs, state):
        state["cache"] += 1
        return {"logits": state["cache"]}

    opened = Opened("numpy", signature, execute, make_state=lambda: {"cache": np.zeros((1, 16), np.float32)})
    first, second = opened.new_state(), opened.new_state()
    answers = [opened.run(FORWARD, utterance(3), state)["logits"].max() for state in (first, first, second)]
    assert answers == [1, 2, 1]
    with pytest.raises(Unsupported, match="numpy cannot run calls that keep states"):
        Opened("numpy", signature, execute)
    with pytest.raises(Unsupported, match="called by forward, with what earlier calls left; expected one call"):
        only(signature.calls)


def test_every_input_of_a_trace_is_a_tensor_of_its_own():
    given = example(CALLS[0], {BATCH: 2, SEQUENCE: 4})
    assert [(name, list(one.shape), str(one.dtype)) for name, one in given.items()] == [
        ("input_ids", [2, 4], "torch.int32"),
        ("attention_mask", [2, 4], "torch.int32"),
    ]
    assert len({id(one) for one in given.values()}) == 2
