"""A text to its continuation, token by token."""

from stages.tasks.base import Primary

PRIMARY = Primary(
    "perplexity", "perplexity", "perplexity_ratio_to_reference", "perplexity_ratio_to_teacher", bar="bits_per_byte"
)
DEMO = ""
