"""conf/release: what a bundle holds beside the artifact."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from stages.core.params import Section

Form = Literal["hf", "litert", "coreml", "ort", "text"]


class Release(Section):
    """Which forms of the artifact ship with it, and whether the probe ships as text."""

    forms: list[Form]
    """`hf` (onnx-cpu), `litert` (tflite-nnapi) and `coreml` (coreml-metal) are what clients take as it is; `ort`
    (onnx-cpu) is for minimal builds of ONNX Runtime; `text` (onnx-cpu) has the tokenizer in the graph. Each holds a
    copy of the weights."""
    golden: Literal["ids", "text"]
    """How `probe.json` gives the probe split: token ids, or the utterances as well."""
    required: bool
    """Whether a variant that has no file in conf/variant is one without whose passing verdict `release` fails."""

    @field_validator("forms")
    @classmethod
    def _distinct(cls, forms: list[Form]) -> list[Form]:
        if len(forms) != len(set(forms)):
            raise ValueError("forms are named once each")
        return forms
