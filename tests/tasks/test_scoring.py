import numpy as np
import pytest

from stages.core.errors import InputError
from stages.measure.statistics import proportion_interval, rate_interval
from stages.measure.top_logits import Logits
from stages.tasks.scoring import evaluation, score

LOGITS = np.eye(4, dtype=np.float32)


def evaluated(make_model, logits, *labels, case=(0, 1, 2, 3), task="classify"):
    return evaluation(task, make_model(), np.array(case), np.array(labels), Logits(logits))


def test_a_score_comes_with_its_interval_and_size(make_model):
    found = evaluated(make_model, LOGITS, 0, 1, 2, 0)
    assert (found["accuracy"], found["n"]) == (0.75, 4)
    assert tuple(found["accuracy_interval"]) == proportion_interval(3, 4)
    assert found["parameters"] == make_model().num_parameters()


def test_items_of_one_text_are_no_independent_ones(make_model):
    found = evaluated(make_model, LOGITS, 0, 1, 2, 0, case=(0, 0, 1, 1), task="tag")
    hits = np.array([True, True, True, False])
    assert tuple(found["accuracy_interval"]) == rate_interval(hits, np.array([0, 0, 1, 1])) != proportion_interval(3, 4)


def test_texts_without_a_label_are_not_counted(make_model):
    found = evaluated(make_model, LOGITS, 0, -1, -1, 0)
    assert (found["accuracy"], found["n"]) == (0.5, 2)


def test_a_rate_of_no_labelled_text_is_an_error(make_model):
    with pytest.raises(InputError, match="no text of the test split has a label"):
        evaluated(make_model, LOGITS, -1, -1, -1, -1)


def test_nan_logits_are_wrong_and_no_checkpoint_that_comes_in_may_have_them(make_model):
    logits = LOGITS.copy()
    logits[2, 1] = np.nan
    assert score("classify", np.arange(4), np.arange(4), Logits(logits))["accuracy"] == 0.75
    with pytest.raises(InputError, match="NaN or infinite logits"):
        evaluated(make_model, logits, 0, 1, 2, 3)
