"""ERNIE (Sun et al. 2019): BERT; a third embedding, of what the model is asked for, may join and does not here."""

from stages.models.families.base import COMMON, COUNT, Family, one_of

FAMILY = Family(
    "ernie",
    rules={**COMMON, "use_task_id": one_of(False), "task_type_vocab_size": COUNT},
    unused={"cls.predictions.": "ForMaskedLM", "cls.seq_relationship.": "ForNextSentencePrediction"},
)
