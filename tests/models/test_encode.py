import numpy as np
import pytest
import torch

from stages.core.errors import InputError
from stages.models.encode import encode, logits

TEXTS = ["wake word1 word2", "song", "lamp word3 word4 word5 word6 word7"]


def test_ids_are_right_padded_to_the_maximum_length(tokenizer):
    encoded = encode(tokenizer, TEXTS, 10)
    assert encoded.input_ids.shape == encoded.attention_mask.shape == (3, 10)
    assert encoded.input_ids.dtype == encoded.attention_mask.dtype == np.int32
    assert encoded.lengths.tolist() == [5, 3, 8]
    assert (encoded.input_ids[encoded.attention_mask == 0] == tokenizer.pad_token_id).all()


def test_a_text_longer_than_the_maximum_is_cut_and_counted_and_one_that_just_fits_is_not(tokenizer):
    assert [encode(tokenizer, TEXTS, width).truncated for width in (8, 7, 4)] == [0, 1, 2]
    assert encode(tokenizer, TEXTS, 4).input_ids[2, -1] == tokenizer.sep_token_id


def test_encoding_leaves_no_limit_behind_in_the_tokenizer(tokenizer):
    encode(tokenizer, TEXTS, 4)
    assert tokenizer.backend_tokenizer.truncation is None


def test_no_texts_is_an_error(tokenizer):
    with pytest.raises(InputError, match="no texts to encode"):
        encode(tokenizer, [], 8)


def test_logits_come_in_the_order_of_the_texts_whatever_their_lengths(make_model, tokenizer):
    model, encoded = make_model(), encode(tokenizer, TEXTS, 16)
    together = logits(model, encoded, batch_size=2)
    alone = np.concatenate([logits(model, encode(tokenizer, [text], 16)) for text in TEXTS])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_logits_restore_the_training_mode_and_ignore_dropout(make_model, tokenizer):
    model, encoded = make_model(), encode(tokenizer, TEXTS, 16)
    expected = logits(model, encoded)
    model.train()
    np.testing.assert_array_equal(logits(model, encoded), expected)
    assert model.training


def test_a_forward_pass_is_as_long_as_memory_allows_and_answers_the_same(make_model, tokenizer, monkeypatch):
    from stages.models import encode as module

    model, encoded = make_model(), encode(tokenizer, [f"wake me up at {hour}" for hour in range(40)], 16)
    rows: list[int] = []
    model.register_forward_pre_hook(lambda _, __, named: rows.append(len(named["input_ids"])), with_kwargs=True)
    whole = logits(model, encoded)
    assert rows == [40]
    rows.clear()
    widest = max(one.out_features for one in model.modules() if isinstance(one, torch.nn.Linear))
    monkeypatch.setattr(module, "FORWARD", 7 * widest * int(encoded.lengths.max()))
    parts = logits(model, encoded)
    assert sum(rows) == 40
    assert max(rows) <= 7 * int(encoded.lengths.max()) // int(encoded.lengths.min())
    assert len(rows) > 4
    assert np.allclose(parts, whole, atol=1e-5)
