"""`text/model.onnx`: text in, probabilities out, with the tokenizer in the graph (onnxruntime-extensions)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.bundling import onnx_forms
from stages.bundling.source import ROUNDING, Source, differs, softmax
from stages.targets.base import INPUTS, OUTPUTS, Inputs
from stages.targets.onnx_cpu import graph

FORM = "text/model.onnx"


def write(source: Source, bundle: Path) -> str:
    """Write the graph, and run what lies behind its tokenizer beside the artifact.

    The tokenizer itself needs a library that the build does not install: the client gate asks it.

    Raises:
        ArtifactError: the graph answers otherwise than the artifact.
    """
    model = onnx_forms.int64_copy(source.artifact)
    onnx_forms.take_text(model, source.tokenization, len(source.labels))
    (bundle / FORM).parent.mkdir()
    graph.write(model, bundle / FORM)
    session = onnx_forms.open_session(onnx_forms.behind_tokenizer(model).SerializeToString(), FORM)

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        rows = dict(zip(onnx_forms.ROWS, (inputs[name][0].astype(np.int64) for name in INPUTS), strict=True))
        logits, found = session.run([*OUTPUTS, onnx_forms.PROBABILITIES], rows)
        wanted = softmax(logits)
        if not np.abs(found - wanted).max() <= ROUNDING:
            raise differs(FORM, source.key, found, wanted)
        return np.asarray(logits)

    source.check(FORM, answer)
    return FORM
