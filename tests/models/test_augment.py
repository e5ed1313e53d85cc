from copy import deepcopy

import numpy as np

from stages.models import augment
from stages.models.encode import encode

TEXTS = ["wake word1 word2 word3 word4", "song", "lamp word5 word6 word7 word8 word9 word10 word11 word12"]


def test_the_pool_starts_with_the_originals(tokenizer):
    encoded = encode(tokenizer, TEXTS * 10, 12)
    pool = augment.pool(encoded, 2, tokenizer, seed=0)
    assert len(pool) == 90
    np.testing.assert_array_equal(pool.input_ids[:30], encoded.input_ids)
    assert pool.truncated == encoded.truncated


def test_no_copies_is_the_split_itself(tokenizer):
    encoded = encode(tokenizer, TEXTS, 12)
    np.testing.assert_array_equal(augment.pool(encoded, 0, tokenizer, seed=0).input_ids, encoded.input_ids)


def test_copies_stay_well_formed_utterances(tokenizer):
    pool = augment.pool(encode(tokenizer, TEXTS * 50, 12), 1, tokenizer, seed=0)
    for ids, mask, length in zip(pool.input_ids, pool.attention_mask, pool.lengths, strict=True):
        assert mask.tolist() == [1] * length + [0] * (12 - length)
        assert (ids[0], ids[length - 1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert length >= 3
        assert (ids[length:] == tokenizer.pad_token_id).all()


def test_copies_drop_mask_and_splice(tokenizer):
    encoded = encode(tokenizer, TEXTS * 50, 12)
    pool = augment.pool(encoded, 1, tokenizer, seed=0)
    before, after = encoded.lengths, pool.lengths[150:]
    assert (after < before).any()
    assert (after > before).any()
    assert (pool.input_ids[150:] == tokenizer.mask_token_id).any()


def test_the_seed_decides_the_copies(tokenizer):
    encoded = encode(tokenizer, TEXTS * 10, 12)
    first, again, other = (augment.pool(encoded, 1, tokenizer, seed).input_ids for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_tokenizer_without_a_mask_token_still_gets_copies(tokenizer):
    maskless = deepcopy(tokenizer)
    maskless.mask_token = None
    encoded = encode(maskless, TEXTS * 10, 12)
    pool = augment.pool(encoded, 1, maskless, seed=0)
    assert not np.isin(pool.input_ids, tokenizer.mask_token_id).any()
    assert not np.array_equal(pool.input_ids[30:], encoded.input_ids)
