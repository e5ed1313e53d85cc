"""BERT (Devlin et al. 2018), MiniLM and what else transformers builds as it."""

from stages.models.families.base import Family

FAMILY = Family(
    "bert", unused={"cls.predictions.": "ForMaskedLM", "cls.seq_relationship.": "ForNextSentencePrediction"}
)
