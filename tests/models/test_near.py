import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stages.models.near import Near


class Words:
    """A model that is a word table."""

    def __init__(self, rows):
        self.table = torch.nn.Embedding.from_pretrained(torch.tensor(rows, dtype=torch.float32))

    def get_input_embeddings(self):
        return self.table


def wordpiece(pieces):
    backend = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


PIECES = ["[UNK]", "red", "blue", "one", "two", "##ish", "7", "x"]
ROWS = [[9, 9], [1, 0.1], [1, -0.1], [-1, 0.1], [-1, -0.1], [1, 0], [1, 0], [1, 0]]


def test_a_word_is_replaced_by_the_word_nearest_to_it():
    near = Near(Words(ROWS), wordpiece(PIECES), 1)
    ids = np.array([1, 3, 2, 4])
    assert near.replace(ids, 1.0, np.random.default_rng(0)).all()
    assert ids.tolist() == [2, 4, 1, 3]


@pytest.mark.parametrize("kept", [[0], [6], [7], [1, 5], []])
def test_special_tokens_numbers_letters_and_words_of_several_pieces_stay(kept):
    near, ids = Near(Words(ROWS), wordpiece(PIECES), 1), np.array(kept, np.int64)
    assert not near.replace(ids, 1.0, np.random.default_rng(0)).any()
    assert ids.tolist() == kept


@pytest.mark.parametrize("mark", ["Ġ", "▁"])
def test_where_pieces_are_marked_that_begin_a_word_the_others_continue_one(mark):
    pieces = ["[UNK]", f"{mark}red", f"{mark}blue", "red", "blue"]
    near = Near(Words([[9, 9], [1, 0.1], [1, -0.1], [1, 0], [1, 0]]), wordpiece(pieces), 4)
    assert near.found.tolist() == [[2], [1]]
    ids = np.array([1, 3, 2])
    assert near.replace(ids, 1.0, np.random.default_rng(0)).tolist() == [False, False, True]


def test_a_single_word_has_no_neighbour():
    near, ids = Near(Words([[9, 9], [1, 0]]), wordpiece(["[UNK]", "red"]), 3), np.array([1])
    assert not near.replace(ids, 1.0, np.random.default_rng(0)).any()
