import numpy as np
import pytest

from stages.core.errors import ArtifactError
from stages.core.splits import UNKNOWN
from stages.tasks.classify import model


def test_labels_become_class_ids_and_null_becomes_unknown():
    found = model.wanted(None, ["ja", "?"], ["yes", None], None, ["no", "yes"])
    assert found.dtype == np.int64
    assert found.tolist() == [1, UNKNOWN]


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(ArtifactError, match="label 'maybe' is not in labels.json; next: run `dvc repro prepare`"):
        model.wanted(None, ["a"], ["maybe"], None, ["no", "yes"])
