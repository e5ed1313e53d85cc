"""RoBERTa (Liu et al. 2019) and DistilRoBERTa: BERT with positions after the padding id and a head of two layers."""

from stages.models.families.base import Family

FAMILY = Family(
    "roberta",
    padded_positions=True,
    head="classifier.out_proj",
    # The pooler of older releases is no part of the classifier either.
    unused={"lm_head.": "ForMaskedLM", "roberta.pooler.": "Model"},
)
