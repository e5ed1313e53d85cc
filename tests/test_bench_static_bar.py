"""The second honesty bar: a mean of the teacher's token vectors."""

import numpy as np
import pytest

from benchmarks import static_bar
from stages.models import checkpoint


def test_a_token_is_what_the_encoder_makes_of_it_alone(make_model, tokenizer):
    import torch

    model = make_model()
    found = static_bar.vectors(model, tokenizer, batch_size=7)
    assert found.shape == (model.config.vocab_size, model.config.hidden_size)
    word = tokenizer("wake", return_tensors="pt")
    with torch.inference_mode():
        states = model.base_model(**word).last_hidden_state
    np.testing.assert_allclose(found[word.input_ids[0, 1]], states[0, 1], atol=1e-5)


def test_rare_tokens_count_more_and_special_ones_nothing():
    random = np.random.default_rng(0)
    words = random.normal(size=(6, 4)).astype(np.float32)
    counts = np.array([50, 1, 1, 1000, 0, 10])
    rows = static_bar.table(words, counts, [0], 4)
    lengths, whole = np.linalg.norm(rows, axis=1), np.linalg.norm(words - words.mean(axis=0), axis=1)
    share = lengths / whole
    assert share[0] == 0
    assert share[4] == pytest.approx(1)
    assert share[4] > share[1] > share[5] > share[3] > 0
    assert static_bar.table(words, counts, [0], 2).shape == (6, 2)


def test_order_and_padding_do_not_matter_and_no_text_is_no_direction():
    rows = np.array([[0, 0], [3, 4], [1, 0]], np.float32)
    ids, mask = np.array([[1, 2, 0], [2, 1, 1], [0, 1, 1]]), np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0]])
    found = static_bar.embed(rows, ids, mask)
    np.testing.assert_allclose(found[0], found[1])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0])


def test_words_that_decide_are_found(make_model, tokenizer, data, tmp_path):
    checkpoint.save(make_model(), tokenizer, tmp_path)
    found = static_bar.measure(tmp_path, data, 16, 16)
    low, high = found["accuracy_interval"]
    assert 1 / 4 < low < found["accuracy"] < high  # of four labels
    assert found["n"] == 40
    assert found["parameters"] == 16 * 49 + 4 * 17
