"""A mask that does not mask shows when the same text is asked in another form."""

import numpy as np
import pytest

from stages.measure.invariance import Padding, measure

LENGTHS = [4, 8]
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(50, 3)).astype(np.float32)


def answer(inputs, masked=True, mixed=False):
    """A mean of embeddings over what the mask leaves."""
    weights = inputs["attention_mask"][..., None] if masked else np.ones((*inputs["input_ids"].shape, 1))
    found = (TABLE[inputs["input_ids"]] * weights).sum(axis=1) / weights.sum(axis=1)
    return (found + (found.mean(axis=0) if mixed else 0)).astype(np.float32)


def form(batches=True, reach=0, **wrong):
    ids = np.zeros((20, 8), np.int32)
    mask = (np.arange(8) < RANDOM.integers(1, 8, (20, 1))).astype(np.int32)
    ids[mask == 1] = RANDOM.integers(1, 50, int(mask.sum()))
    probe = {"input_ids": ids, "attention_mask": mask}
    probe["logits"] = answer(probe)
    return measure(
        lambda inputs: answer(inputs, **wrong),
        probe,
        Padding(LENGTHS, token=0, vocabulary=50, reach=reach),
        batches=batches,
    )


def test_an_answer_that_depends_on_the_text_alone_does_not_move():
    assert form() == pytest.approx({"padded": 0, "disturbed": 0, "batched": 0}, abs=1e-6)
    assert set(form(batches=False)) == {"padded", "disturbed"}


def test_an_ignored_mask_shows_in_every_form():
    assert min(form(masked=False).values()) > 0.1


def test_utterances_that_mix_in_a_batch_show_there():
    found = form(mixed=True)
    assert found["batched"] > 0.1


def test_what_the_model_reads_behind_the_text_is_not_disturbed():
    probe_end = form(masked=False, reach=8)
    assert probe_end["disturbed"] == 0
    assert probe_end["padded"] > 0.1


def test_an_answer_that_is_not_finite_is_infinitely_far():
    probe = {"input_ids": np.ones((4, 8), np.int32), "attention_mask": np.tile(np.arange(8) < 3, (4, 1)).astype(int)}
    probe["logits"] = np.eye(4, 3, dtype=np.float32)

    def run(inputs):
        return np.full((len(inputs["input_ids"]), 3), np.nan if inputs["input_ids"].shape[1] > 3 else 0, np.float32)

    found = measure(run, probe, Padding(LENGTHS, token=0, vocabulary=50, reach=0), batches=False)
    assert found == {"padded": np.inf, "disturbed": np.inf}
