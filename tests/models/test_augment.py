from copy import deepcopy
from pathlib import Path

import numpy as np
import yaml

from stages.core.splits import UNKNOWN
from stages.models import augment
from stages.models.encode import encode
from stages.models.examples import Examples
from stages.models.near import Near
from stages.schema.transfer import Transfer
from stages.tasks.classify.model import items

TEXTS = ["wake word1 word2 word3 word4", "song", "lamp word5 word6 word7 word8 word9 word10 word11 word12"]


def asked(altered=0, seed=0, **changes):
    conf = yaml.safe_load(Path("conf/transfer/default.yaml").read_text(encoding="utf-8"))
    return Transfer.model_validate({**conf, "altered": altered, "seed": seed, **changes})


def pool_of(encoded, copies, tokenizer, seed):
    examples = Examples(encoded, np.arange(len(encoded)), items)
    return augment.pool(examples, asked(copies, seed), tokenizer)[0].encoded


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
    assert augment.pool(given, asked(2), tokenizer)[0].wanted.tolist() == [2, 0, 1] * 3


def test_what_is_right_of_a_token_goes_where_it_goes(tokenizer):
    """Each token is its own class here; a masked one keeps its class, and of one from elsewhere none is known."""
    encoded = encode(tokenizer, TEXTS * 50, 12)
    given = Examples(encoded, np.where(encoded.attention_mask == 1, encoded.input_ids, UNKNOWN).astype(np.int64), items)
    pool, _ = augment.pool(given, asked(1), tokenizer)
    ids, wanted, real = pool.encoded.input_ids[150:], pool.wanted[150:], pool.encoded.attention_mask[150:] == 1
    known = wanted != UNKNOWN
    assert not (known & ~real).any()
    assert ((ids == wanted) | (ids == tokenizer.mask_token_id))[known].all()
    assert (known & (ids == tokenizer.mask_token_id)).any()
    assert (~known & real).any()


def test_near_copies_have_other_words_in_the_same_places_and_no_label(tokenizer, make_model):
    near = Near(make_model(), tokenizer, 3)
    given = Examples(encode(tokenizer, TEXTS * 20, 12), np.tile([2, 0, 1], 20), items)
    pool, kinds = augment.pool(given, asked(near=[0.5, 1.0]), tokenizer, near)
    assert kinds == {"train": 60, "near": 120}
    assert pool.encoded.lengths.tolist() == given.encoded.lengths.tolist() * 3
    before, some, all_of_them = pool.encoded.input_ids.reshape(3, 60, 12)
    assert 0 < (some != before).sum() < (all_of_them != before).sum()
    words = (given.encoded.attention_mask == 1) & ~np.isin(before, tokenizer.all_special_ids)
    assert ((all_of_them != before) == (words & (near.rows[before] >= 0))).all()
    assert pool.wanted.tolist() == [2, 0, 1] * 20 + [UNKNOWN] * 120


def test_halves_begin_as_one_text_and_end_as_another(tokenizer):
    given = Examples(encode(tokenizer, TEXTS, 12), np.array([2, 0, 1]), items)
    pool, kinds = augment.pool(given, asked(halves=4), tokenizer)
    assert kinds == {"train": 3, "halves": 12}
    first, last = tokenizer.convert_tokens_to_ids(["wake", "word4"])
    made = pool.encoded.input_ids[3::3], pool.encoded.lengths[3::3]
    assert {row[1] for row in made[0]} == {first}
    assert len({row[length - 2] for row, length in zip(*made, strict=True)} - {last}) >= 1
    assert pool.wanted.tolist() == [2, 0, 1] + [UNKNOWN] * 12


def test_of_a_token_from_elsewhere_nothing_is_known(tokenizer, make_model):
    encoded = encode(tokenizer, TEXTS * 20, 12)
    given = Examples(encoded, np.where(encoded.attention_mask == 1, encoded.input_ids, UNKNOWN).astype(np.int64), items)
    pool, _ = augment.pool(given, asked(near=[0.5], halves=1), tokenizer, Near(make_model(), tokenizer, 3))
    known = pool.wanted != UNKNOWN
    assert (pool.wanted == pool.encoded.input_ids)[known].all()
    assert known[60:].any()
    assert (~known & (pool.encoded.attention_mask == 1))[60:].any()
