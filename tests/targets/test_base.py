"""Signatures and padding, shared by all targets."""

import json

import numpy as np
import pytest

from stages.core.errors import ArtifactError, InputError
from stages.targets.base import pad_to_signature, read_signature, write_signature


def utterance(length, dtype=np.int32):
    return {"input_ids": np.full((1, length), 7, dtype), "attention_mask": np.ones((1, length), dtype)}


@pytest.mark.parametrize(("length", "expected"), [(1, 8), (8, 8), (9, 16), (16, 16)])
def test_padding_takes_the_smallest_length_that_fits(length, expected):
    padded = pad_to_signature(utterance(length), [16, 8], pad_token_id=3)
    assert padded["input_ids"].tolist() == [[7] * length + [3] * (expected - length)]
    assert padded["attention_mask"].tolist() == [[1] * length + [0] * (expected - length)]
    assert {array.dtype for array in padded.values()} == {np.dtype(np.int32)}


def test_an_utterance_longer_than_every_signature_is_refused():
    with pytest.raises(InputError, match="17 tokens do not fit; expected at most 16"):
        pad_to_signature(utterance(17), [8, 16], pad_token_id=0)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": np.ones((1, 4), np.int32)}, r"inputs are \['input_ids'\]"),
        (utterance(4, np.int64), "'input_ids' is int64"),
        ({**utterance(4), "attention_mask": np.ones((1, 3), np.int32)}, r"'attention_mask' is int32 \[1, 3\]"),
        ({name: array.repeat(2, axis=0) for name, array in utterance(4).items()}, r"\[2, 4\]; expected int32 \[1, n\]"),
        ({name: array[0] for name, array in utterance(4).items()}, r"'input_ids' is int32 \[4\]"),
    ],
)
def test_inputs_of_another_type_or_shape_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        pad_to_signature(inputs, [8], pad_token_id=0)


def test_a_signature_is_read_as_written(tmp_path):
    write_signature(tmp_path, sequence_lengths=[8, 16], dynamic=False, pad_token_id=1)
    signature = read_signature(tmp_path)
    assert (signature.inputs, signature.outputs) == (["input_ids", "attention_mask"], ["logits"])
    assert (signature.sequence_lengths, signature.dynamic, signature.pad_token_id) == ([8, 16], False, 1)


def test_a_missing_signature_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read .*signature\.json"):
        read_signature(tmp_path)


def test_a_signature_without_its_keys_is_refused(tmp_path):
    (tmp_path / "signature.json").write_text(json.dumps({"inputs": ["input_ids"]}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not a signature: missing key"):
        read_signature(tmp_path)
