"""Run a TFLite file as an app does: the smallest signature that holds the tokens, padded at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stages.asking.python import harness


def asking(interpreter: Any, tokenize: Callable[[Mapping[str, Any]], list[int]]) -> harness.Ask:
    """Allocate every signature of an interpreter, so that it refuses here what it cannot run.

    Args:
        interpreter: of TFLite or LiteRT.
        tokenize: item → token ids.
    """
    runners = {}
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        runners[int(runner.get_input_details()["input_ids"]["shape"][-1])] = runner

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        ids = tokenize(item)
        length = min(length for length in runners if length >= len(ids))
        row, mask = np.zeros((2, 1, length), np.int32)
        row[0, : len(ids)], mask[0, : len(ids)] = ids, 1
        runner = runners[length]
        logits = runner(input_ids=row, attention_mask=mask)["logits"][0].astype(np.float32)
        scale, zero = runner.get_output_details()["logits"]["quantization"]
        return harness.labelled(harness.softmax((logits - zero) * scale if scale else logits), ids)

    return ask
