from copy import deepcopy

import numpy as np

from stages.core.splits import UNKNOWN
from stages.models import augment
from stages.models.encode import encode
from stages.models.examples import Examples
from stages.tasks.classify.model import items

TEXTS = ["wake word1 word2 word3 word4", "song", "lamp word5 word6 word7 word8 word9 word10 word11 word12"]


def pool_of(encoded, copies, tokenizer, seed):
    examples = Examples(encoded, np.arange(len(encoded)), items)
    return augment.pool(examples, copies, tokenizer, seed).encoded


def test_the_pool_starts_with_the_originals(tokenizer):
    encoded = encode(tokenizer, TEXTS * 10, 12)
    pool = pool_of(encoded, 2, tokenizer, seed=0)
    assert len(pool) == 90
    np.testing.assert_array_equal(pool.input_ids[:30], encoded.input_ids)
    assert pool.truncated == encoded.truncated


def test_no_copies_is_the_split_itself(tokenizer):
    encoded = encode(tokenizer, TEXTS, 12)
    np.testing.assert_array_equal(pool_of(encoded, 0, tokenizer, seed=0).input_ids, encoded.input_ids)


def test_copies_stay_well_formed_utterances(tokenizer):
    pool = pool_of(encode(tokenizer, TEXTS * 50, 12), 1, tokenizer, seed=0)
    for ids, mask, length in zip(pool.input_ids, pool.attention_mask, pool.lengths, strict=True):
        assert mask.tolist() == [1] * length + [0] * (12 - length)
        assert (ids[0], ids[length - 1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert length >= 3
        assert (ids[length:] == tokenizer.pad_token_id).all()


def test_copies_drop_mask_and_splice(tokenizer):
    encoded = encode(tokenizer, TEXTS * 50, 12)
    pool = pool_of(encoded, 1, tokenizer, seed=0)
    before, after = encoded.lengths, pool.lengths[150:]
    assert (after < before).any()
    assert (after > before).any()
    assert (pool.input_ids[150:] == tokenizer.mask_token_id).any()


def test_the_seed_decides_the_copies(tokenizer):
    encoded = encode(tokenizer, TEXTS * 10, 12)
    first, again, other = (pool_of(encoded, 1, tokenizer, seed).input_ids for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_tokenizer_without_a_mask_token_still_gets_copies(tokenizer):
    maskless = deepcopy(tokenizer)
    maskless.mask_token = None
    encoded = encode(maskless, TEXTS * 10, 12)
    pool = pool_of(encoded, 1, maskless, seed=0)
    assert not np.isin(pool.input_ids, tokenizer.mask_token_id).any()
    assert not np.array_equal(pool.input_ids[30:], encoded.input_ids)


def test_what_is_right_of_a_text_is_right_of_its_copies(tokenizer):
    given = Examples(encode(tokenizer, TEXTS, 12), np.array([2, 0, 1]), items)
    assert augment.pool(given, 2, tokenizer, seed=0).wanted.tolist() == [2, 0, 1] * 3


def test_what_is_right_of_a_token_goes_where_it_goes(tokenizer):
    """Each token is its own class here; a masked one keeps its class, and of one from elsewhere none is known."""
    encoded = encode(tokenizer, TEXTS * 50, 12)
    given = Examples(encoded, np.where(encoded.attention_mask == 1, encoded.input_ids, UNKNOWN).astype(np.int64), items)
    pool = augment.pool(given, 1, tokenizer, seed=0)
    ids, wanted, real = pool.encoded.input_ids[150:], pool.wanted[150:], pool.encoded.attention_mask[150:] == 1
    known = wanted != UNKNOWN
    assert not (known & ~real).any()
    assert ((ids == wanted) | (ids == tokenizer.mask_token_id))[known].all()
    assert (known & (ids == tokenizer.mask_token_id)).any()
    assert (~known & real).any()
