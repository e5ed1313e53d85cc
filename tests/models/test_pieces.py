import numpy as np
import pytest

from stages.core.errors import ConfigError
from stages.models.encode import encode
from stages.models.pieces import choose, indispensable, recut, rewrite_tokenizer
from stages.models.vocabulary import train_tokenizer

TEXTS = ["wake me up early", "play a song", "play songs again", "waking early", "sing a song"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 3, 60, 12)


def test_texts_cut_anew_are_as_the_smaller_tokenizer_cuts_them(tokenizer):
    """Those that kept their pieces too; a mask in a text stays one."""
    encoded, size = encode(tokenizer, [*TEXTS, "play [MASK] song"], 12), len(tokenizer)
    needed = int(indispensable(tokenizer, size).sum())
    kept = choose(tokenizer, encode(tokenizer, TEXTS[1:3], 12), encoded, size, needed + 3)
    assert len(kept) == needed + 3
    rewritten = rewrite_tokenizer(tokenizer, kept)
    found, wanted = (
        recut(tokenizer, rewritten, encoded, kept, size),
        encode(rewritten, [*TEXTS, "play [MASK] song"], 12),
    )
    assert (found.lengths != encoded.lengths).any()
    assert (found.lengths == encoded.lengths).any()
    np.testing.assert_array_equal(found.input_ids, wanted.input_ids)
    np.testing.assert_array_equal(found.attention_mask, wanted.attention_mask)


def test_pieces_of_labelled_texts_come_before_those_of_copies(tokenizer):
    size, first, more = len(tokenizer), encode(tokenizer, TEXTS[1:2], 12), encode(tokenizer, TEXTS, 12)
    needed = indispensable(tokenizer, size)
    own = np.setdiff1d(first.input_ids, np.flatnonzero(needed))
    assert len(own)
    kept = choose(tokenizer, first, more, size, int(needed.sum()) + len(own))
    assert set(own) <= set(kept)
    assert len(choose(tokenizer, first, more, size, 10_000)) <= size


def test_fewer_than_what_words_cannot_do_without_is_refused(tokenizer):
    encoded = encode(tokenizer, TEXTS, 12)
    with pytest.raises(ConfigError, match=r"student.pieces is 4; expected \d+ or more"):
        choose(tokenizer, encoded, encoded, len(tokenizer), 4)
