"""Matching finds every matrix that conversion keeps, and misses the one that is broken."""

import tracemalloc

import numpy as np
import pytest

from stages.measure.matching import match
from stages.measure.rounding import reach, uniform_error

RANDOM = np.random.default_rng(0)
SQUARE = "encoder.query.weight"
WIDE = "encoder.dense.weight"
TABLE = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"


def matrix(*shape):
    return RANDOM.normal(0, 0.1, shape).astype(np.float32)


CHECKPOINT = {
    SQUARE: matrix(48, 48),
    WIDE: matrix(64, 48),
    TABLE: matrix(60, 48),
    TYPES: matrix(40, 48),
    "embeddings.LayerNorm.weight": RANDOM.uniform(0.2, 1.8, 48).astype(np.float32),
    "encoder.NoNorm.weight": RANDOM.uniform(0.2, 1.8, 64).astype(np.float32),
    "classifier.weight": matrix(5, 48),
    "encoder.dense.bias": matrix(64),
}
SOUND = {"a": CHECKPOINT[SQUARE], "b": CHECKPOINT[WIDE], "c": CHECKPOINT[TABLE]}
NEAR_ZERO = 0.1


def cosines(checkpoint=CHECKPOINT, positions=60, **changes):
    return {name: found.cosine for name, found in match(checkpoint, SOUND | changes, positions=positions).items()}


def test_sound_weights_match_under_any_name():
    assert cosines() == pytest.approx({SQUARE: 1, WIDE: 1, TABLE: 1}, abs=1e-6)


@pytest.mark.parametrize(("stored", "name"), [("a", SQUARE), ("b", WIDE), ("c", TABLE)])
@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_a_zeroed_or_poisoned_weight_matches_nothing_and_the_others_stay(stored, name, value):
    found = cosines(**{stored: np.full_like(SOUND[stored], value)})
    assert found.pop(name) < NEAR_ZERO
    assert min(found.values()) > 0.999


def test_a_missing_or_transposed_weight_is_caught():
    assert match(CHECKPOINT, {"a": SOUND["a"], "c": SOUND["c"]}, positions=60)[WIDE][:2] == (0, 1)
    assert cosines(a=SOUND["a"].T)[SQUARE] < NEAR_ZERO
    assert cosines(b=SOUND["b"].T)[WIDE] == 0


def test_a_negated_weight_is_no_match():
    assert cosines(a=-SOUND["a"])[SQUARE] < NEAR_ZERO


def test_rows_of_zeros_lower_the_cosine():
    broken = SOUND["b"].copy()
    broken[:16] = 0
    assert 0.7 < cosines(b=broken)[WIDE] < 0.95


def test_normalisations_that_converters_fold_are_known():
    before = SOUND["b"] * CHECKPOINT["embeddings.LayerNorm.weight"]
    after = SOUND["b"] * CHECKPOINT["encoder.NoNorm.weight"][:, None]
    for folded in (before, after):
        assert cosines(b=folded)[WIDE] == pytest.approx(1, abs=1e-6)
    stranger = SOUND["b"] * RANDOM.uniform(0.2, 1.8, 48).astype(np.float32)
    assert cosines(b=stranger)[WIDE] < 0.99


def test_positions_are_compared_as_far_as_they_are_read():
    kept = SOUND["c"][:30]
    assert cosines(positions=30, c=kept[None])[TABLE] == pytest.approx(1, abs=1e-6)
    assert cosines(positions=30, c=kept + CHECKPOINT[TYPES][0])[TABLE] == pytest.approx(1, abs=1e-6)
    assert cosines(positions=40, c=kept)[TABLE] == 0
    unread = SOUND["c"].copy()
    unread[30:] = 0
    assert cosines(positions=30, c=unread)[TABLE] == pytest.approx(1, abs=1e-6)
    assert cosines(positions=60, c=unread)[TABLE] < 0.95
    assert TABLE not in cosines(positions=21)  # 1,008 elements


def test_the_first_token_types_row_for_each_token_is_no_copy_of_the_positions():
    """The fault: where that row outweighs the positions, it is nearer to their sum than two copies have to be."""
    row = 4 * CHECKPOINT[TYPES][0]
    checkpoint = CHECKPOINT | {TYPES: np.stack([row, row])}
    repeated, folded = np.tile(row, (60, 1)), CHECKPOINT[TABLE] + row
    assert (folded * repeated).sum() > 0.9 * np.linalg.norm(folded) * np.linalg.norm(repeated)
    assert match(checkpoint, SOUND | {"d": repeated}, positions=60)[TABLE] == (pytest.approx(1), 0, 0)
    assert match(checkpoint, SOUND | {"c": folded, "d": repeated}, positions=60)[TABLE] == (pytest.approx(1), 0, 0)
    broken = folded.copy()
    broken[7] = 0
    assert match(checkpoint, SOUND | {"c": broken, "d": repeated}, positions=60)[TABLE].error > 0.5


def test_two_weights_that_changed_places_are_not_seen():
    """Said in the docstring: content has no place; `structure` and logits are there for that."""
    twice = CHECKPOINT | {"encoder.key.weight": matrix(48, 48)}
    assert min(cosines(checkpoint=twice, a=twice["encoder.key.weight"], d=SOUND["a"]).values()) > 0.999


def test_the_error_names_one_wrong_element_that_the_cosine_does_not():
    flipped = SOUND["b"].copy()
    flipped[3, 5] += np.float32(1e-3)
    found = match(CHECKPOINT, SOUND | {"b": flipped}, positions=60)
    assert found[WIDE].cosine > 0.9999
    assert found[WIDE].error == pytest.approx(1e-3 / np.abs(SOUND["b"]).max(), rel=1e-3)
    assert found[SQUARE].error == 0


def test_a_checkpoint_without_matrices_is_an_error_rather_than_perfect():
    with pytest.raises(ValueError, match="no matrix of 1024 elements"):
        match({"bias": np.ones(4096, np.float32)}, SOUND, positions=60)


def rounded(value, step):
    return (np.rint(value / step) * step).astype(np.float32)


def excess(stored, checkpoint=None, **changes):
    def expected(_, value, whole):
        return uniform_error(value, reach(whole, "tensor"), 127)

    found = match(checkpoint or CHECKPOINT, {**stored, **changes}, positions=60, expected=expected)
    return {name: one.excess for name, one in found.items()}


def own_grid(value):
    return rounded(value, np.abs(value).max() / np.float32(127))


@pytest.mark.parametrize("outlier", [0, 17.5])
def test_a_weight_on_its_own_grid_is_off_by_what_that_explains_and_one_on_a_wider_grid_is_not(outlier):
    checkpoint = CHECKPOINT | {WIDE: SOUND["b"].copy()}
    checkpoint[WIDE][0, 0] += np.float32(outlier)
    wide, sound = checkpoint[WIDE], {name: own_grid(value) for name, value in SOUND.items()}
    assert max(excess(sound, checkpoint, b=own_grid(wide)).values()) == pytest.approx(1, abs=0.02)
    for broken in (rounded(wide, np.abs(wide).max() / np.float32(60)), np.zeros_like(wide), CHECKPOINT[WIDE][::-1]):
        assert excess(sound, checkpoint, b=broken)[WIDE] > 1.5
    poisoned = own_grid(wide)
    poisoned[1, 1] = np.nan
    assert excess(sound, checkpoint, b=poisoned)[WIDE] > 1.5


def test_what_a_converter_folded_is_held_to_the_grid_of_what_it_made():
    folded = SOUND["b"] * CHECKPOINT["embeddings.LayerNorm.weight"]
    assert excess(SOUND, b=own_grid(folded))[WIDE] == pytest.approx(1, abs=0.05)


def test_positions_that_were_cut_are_held_to_the_grid_of_the_whole_table():
    step = np.abs(SOUND["c"]).max() / np.float32(127)
    expected = match(
        CHECKPOINT,
        SOUND | {"c": rounded(SOUND["c"], step)},
        positions=30,
        expected=lambda _, value, whole: uniform_error(value, reach(whole, "tensor"), 127),
    )
    assert expected[TABLE].excess == pytest.approx(1, abs=0.05)


def test_a_weight_that_is_missing_is_off_by_all_of_it():
    assert excess({"a": own_grid(SOUND["a"]), "c": own_grid(SOUND["c"])})[WIDE] > 50


def test_a_large_table_is_matched_in_little_memory():
    """Any of 24 normalisations of its width may have been folded in; a copy for each was 2.3 GB of a MiniLM."""
    table = RANDOM.normal(0, 1, (20000, 64)).astype(np.float32)
    norms = {f"layer.{number}.norm.weight": matrix(64) for number in range(24)}
    tracemalloc.start()
    found = match({WIDE: table} | norms, {"a": table.T.copy().T}, positions=60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[WIDE].error == 0
    assert peak < 3 * table.nbytes
