"""XLM-RoBERTa (Conneau et al. 2019): RoBERTa for a hundred languages."""

from dataclasses import replace

from stages.models.families import roberta

FAMILY = replace(roberta.FAMILY, name="xlm-roberta")
