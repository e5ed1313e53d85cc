"""A static artifact says on how few utterances its ranges hang."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import InputError
from stages.quantize import Params, stability
from tests.targets.onnx_models import INTEGER, TARGET, TASK, VOCABULARY

pytestmark = pytest.mark.target


def test_two_halves_of_a_calibration_set_are_compared(converted: dict[str, Path]) -> None:
    random = np.random.default_rng(0)
    ids = random.integers(5, VOCABULARY, (12, TASK.max_length)).astype(np.int32)
    settings = Params(precision=INTEGER["static-channel"], target=TARGET)
    twice = {"input_ids": np.repeat(ids, 2, axis=0), "attention_mask": np.ones((24, TASK.max_length), np.int32)}
    assert stability(settings, converted["bert"], twice) == {"calibration_agreement": 1.0}
    with pytest.raises(InputError, match="one calibration utterance has no halves"):
        stability(settings, converted["bert"], {name: rows[:1] for name, rows in twice.items()})
