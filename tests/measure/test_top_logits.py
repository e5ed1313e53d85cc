"""Of a large vocabulary, what is kept of logits says of them what all of them would."""

import numpy as np
import pytest

from stages.core.errors import ArtifactError
from stages.measure import metrics, top_logits
from stages.measure.top_logits import LARGE, TOP, Logits, columns, keep

COUNT, ITEMS = LARGE + 904, 12


@pytest.fixture
def drawn():
    """Reference, artifact and right classes; the last is the least likely of all."""
    generator = np.random.default_rng(0)
    reference = generator.normal(0, 3, (ITEMS, COUNT)).astype(np.float32)
    artifact = (reference + generator.normal(0, 0.3, reference.shape)).astype(np.float32)
    wanted = generator.integers(0, COUNT, ITEMS)
    wanted[0], wanted[-1] = -1, reference[-1].argmin()
    return reference, artifact, wanted


def compare(reference, artifact, wanted, classes=None):
    return metrics.compare(reference, [artifact[:5], artifact[5:]], np.arange(ITEMS), wanted, classes)


def test_nothing_is_left_out_of_few_classes():
    logits = np.zeros((2, LARGE), np.float32)
    assert keep(logits, np.array([1, 2])) == (logits, None)
    assert columns(logits, None) is logits


def test_answers_and_nll_lose_nothing(drawn):
    reference, artifact, wanted = drawn
    kept = keep(reference, wanted)
    assert kept.values.shape == kept.classes.shape == (ITEMS, TOP + 1)
    whole, found = metrics.answers(reference, wanted), metrics.kept_answers(kept, wanted)
    assert (found.answer == whole.answer).all()
    np.testing.assert_allclose(found.nll, whole.nll, atol=2e-6)
    compared = compare(kept.values, artifact, wanted, kept.classes)
    expected = metrics.answers(artifact, wanted)
    assert (compared.record.answer == expected.answer).all()
    assert (compared.record.nll[1:] == expected.nll[1:]).all()
    assert (compared.expected == reference.argmax(axis=1)).all()


def test_divergence_is_below_the_true_one_by_that_within_the_rest(drawn):
    reference, artifact, wanted = drawn
    kept = keep(reference, wanted)
    found = compare(kept.values, artifact, wanted, kept.classes).record.kl_divergence
    whole = compare(reference, artifact, wanted).record.kl_divergence
    rest = np.ones(reference.shape, bool)
    np.put_along_axis(rest, kept.classes[:, :-1], False, axis=1)
    probability = (metrics.softmax(reference) * rest).sum(axis=1)
    within = metrics.kl_divergence(
        reference=reference[rest].reshape(ITEMS, -1), outputs=artifact[rest].reshape(ITEMS, -1)
    )
    np.testing.assert_allclose(whole - found, probability * within, rtol=1e-4)
    assert (found < whole).all()


def test_a_right_class_that_was_not_kept_is_no_likely_one(drawn):
    reference, _, wanted = drawn
    kept = keep(reference, np.full(ITEMS, -1))
    assert np.isinf(metrics.kept_answers(kept, wanted).nll[-1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_is_seen_whether_kept_or_not(drawn, bad):
    reference, artifact, wanted = drawn
    kept = keep(reference, wanted)
    artifact[3, reference[3].argmin()] = bad
    compared = compare(kept.values, artifact, wanted, kept.classes)
    assert (compared.non_finite, compared.record.answer[3]) == (1, -1)
    reference[3, reference[3].argmin()] = bad
    assert metrics.kept_answers(keep(reference, wanted), wanted).answer[3] == -1


def test_a_rest_that_weighs_nothing_is_a_number():
    logits = np.full((1, COUNT), -1000, np.float32)
    logits[0, :TOP] = 10
    assert np.isfinite(keep(logits, np.array([0])).values).all()


def test_what_is_written_is_read(drawn, tmp_path):
    with pytest.raises(ArtifactError, match="has no test_logits"):
        top_logits.load(tmp_path)
    for logits in (keep(drawn[0], drawn[2]), Logits(drawn[0][:, :7])):
        place = tmp_path / str(logits.classes is None)
        place.mkdir()
        top_logits.save(logits, place)
        found = top_logits.load(place)
        assert all(np.array_equal(one, other) for one, other in zip(found, logits, strict=True) if other is not None)
        assert top_logits.width(top_logits.arrays(found)) == (7 if logits.classes is None else COUNT)
