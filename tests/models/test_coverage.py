"""Coverage inputs leave no length and no used row of the vocabulary out."""

import numpy as np
import pytest

from stages.models.coverage import EDGES, encode_coverage
from stages.models.encode import encode

LENGTH = 8


@pytest.fixture
def texts(tokenizer):
    words = sorted(word for word in tokenizer.get_vocab() if word.startswith("word"))
    return [" ".join(words[start : start + 4]) for start in range(0, 36, 4)]


def test_edge_texts_come_first_as_the_tokenizer_gives_them(tokenizer, texts):
    found, edges = (
        encode_coverage(tokenizer, [encode(tokenizer, texts, LENGTH)], LENGTH),
        encode(tokenizer, EDGES, LENGTH),
    )
    assert (found.input_ids[: len(EDGES)] == edges.input_ids).all()
    assert found.truncated == edges.truncated > 0


def test_every_length_occurs_from_one_token_to_no_padding(tokenizer, texts):
    found = encode_coverage(tokenizer, [encode(tokenizer, texts, LENGTH)], LENGTH)
    assert set(found.lengths) == set(range(1, LENGTH + 1))
    assert (np.diff(found.attention_mask, axis=1) <= 0).all()  # right-padded


def test_what_reads_token_by_token_is_asked_for_the_whole_length_and_powers_of_two_below(tokenizer, texts):
    found = encode_coverage(tokenizer, [encode(tokenizer, texts, 12)], 12, continues=True)
    assert sorted(found.lengths[len(EDGES) : len(EDGES) + 5]) == [1, 2, 4, 8, 12]


def test_every_id_of_normal_text_is_read(tokenizer, texts):
    found, normal = (
        encode_coverage(tokenizer, [encode(tokenizer, texts, LENGTH)], LENGTH),
        encode(tokenizer, texts, LENGTH),
    )
    read = set(found.input_ids[found.attention_mask == 1].tolist())
    assert set(normal.input_ids[normal.attention_mask == 1].tolist()) <= read
    unused = tokenizer.convert_tokens_to_ids("word9")
    assert unused not in read


def test_of_very_many_ids_in_use_some_rows_are_asked(tokenizer, texts):
    normal = [encode(tokenizer, texts, LENGTH)]
    whole, few = (len(encode_coverage(tokenizer, normal, LENGTH, most=most)) for most in (None, 1))
    assert few == len(EDGES) + LENGTH + 1 < whole
