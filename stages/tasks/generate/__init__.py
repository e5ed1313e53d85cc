"""A text to its continuation, token by token."""

from stages.tasks.base import Primary

PRIMARY = Primary(
    "perplexity",
    "perplexity",
    "perplexity_increase_to_reference",
    "perplexity_increase_to_teacher",
    bar="bits_per_byte",
)
LATENCIES = {"decode": "latency", "prefill": "latency_full"}
DEMO = ""
