"""ELECTRA's discriminator (Clark et al. 2020): BERT with narrower word embeddings and a head of two layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.models.families.base import ANY, COMMON, COUNT, Family

# The published width of the small model's word embeddings.
EMBEDDING_SIZE = 128


def _narrow(fields: Mapping[str, Any], hidden_size: int) -> dict[str, int]:
    return {"embedding_size": min(fields["embedding_size"], hidden_size)}


FAMILY = Family(
    "electra",
    rules={
        **COMMON,
        "embedding_size": COUNT,
        # Of heads for several texts: the classifier of sentences has its own.
        **dict.fromkeys(("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"), ANY),
    },
    copies=lambda _config: {},
    published={"embedding_size": EMBEDDING_SIZE},
    narrow=_narrow,
    head="classifier.out_proj",
    unused={
        "discriminator_predictions.": "ForPreTraining",
        **dict.fromkeys(("generator_predictions.", "generator_lm_head."), "ForMaskedLM"),
    },
)
