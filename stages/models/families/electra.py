"""ELECTRA's discriminator (Clark et al. 2020): BERT with narrower word embeddings and a head of two layers."""

from stages.models.families.base import ANY, COMMON, COUNT, WORDS_WIDTH, Family, narrow_words

FAMILY = Family(
    "electra",
    rules={
        **COMMON,
        "embedding_size": COUNT,
        # Of heads for several texts: the classifier of sentences has its own.
        **dict.fromkeys(("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"), ANY),
    },
    copies=lambda _config: {},
    published={"embedding_size": WORDS_WIDTH},
    narrow=narrow_words,
    head="classifier.out_proj",
    unused={
        "discriminator_predictions.": "ForPreTraining",
        **dict.fromkeys(("generator_predictions.", "generator_lm_head."), "ForMaskedLM"),
    },
)
