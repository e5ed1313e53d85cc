"""conf/clients: which clients must repeat an artifact's answers, and how nearly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.core.params import Section

ClientName = Literal[
    "litert",
    "litert-js",
    "litert-lm",
    "mediapipe",
    "mediapipe-web",
    "onnxruntime",
    "onnxruntime-extensions",
    "onnxruntime-genai",
    "onnxruntime-web",
    "optimum",
    "tflite-micro",
    "transformers-js",
    "transformers-js-web",
]


class Bound(Section):
    """How nearly a client must repeat what the artifact answered in the build."""

    top1_agreement: Annotated[float, Field(gt=0, le=1)]
    """Least share of equal answers."""
    probability_difference: Annotated[float, Field(gt=0, lt=1)]
    """Farthest that any label's probability may lie."""


class Clients(Section):
    """The clients that apps use."""

    utterances: Annotated[int, Field(ge=1)]
    """Of the test split, evenly spread."""
    required: list[ClientName]
    """A bundle that one of these was asked about and did not answer alike is not promoted."""
    before_release: bool
    """Whether no bundle is promoted before every required client that takes it was asked."""
    exact: Bound
    """Of fp32 variants."""
    quantized: Bound
    """Of all others: kernels of two runtimes round differently."""
