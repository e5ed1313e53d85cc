import numpy as np
import pytest

from stages.core.errors import InputError
from stages.models.encode import Encoded
from stages.models.evaluation import evaluation
from stages.models.examples import Examples
from stages.tasks.classify.model import items


def labelled(*labels):
    tokens = np.ones((len(labels), 4), np.int32)
    return Examples(Encoded(tokens, tokens, 0), np.array(labels), items)


def test_a_score_comes_with_its_interval_and_size(make_model):
    logits = np.eye(4, dtype=np.float32)
    found = evaluation(make_model(), logits, labelled(0, 1, 2, 0))
    low, high = found["accuracy_interval"]
    assert (found["accuracy"], found["n"]) == (0.75, 4)
    assert 0 < low < 0.75 < high < 1
    assert found["parameters"] == make_model().num_parameters()


def test_texts_without_a_label_are_not_counted(make_model):
    found = evaluation(make_model(), np.eye(4, dtype=np.float32), labelled(0, -1, -1, 0))
    assert (found["accuracy"], found["n"]) == (0.5, 2)


def test_a_rate_of_no_labelled_text_is_an_error(make_model):
    with pytest.raises(InputError, match="no text of the test split has a label"):
        evaluation(make_model(), np.eye(4, dtype=np.float32), labelled(-1, -1, -1, -1))


def test_nan_logits_are_an_error_and_never_a_score(make_model):
    logits = np.eye(4, dtype=np.float32)
    logits[2, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinite logits"):
        evaluation(make_model(), logits, labelled(0, 1, 2, 3))
