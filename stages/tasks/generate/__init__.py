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
PROMPTS = ("Once upon a time", "The", "1 + 1 =")
QUESTION = "Name a colour."
"""Beginnings that bundles show, and a chat's: ours, so that no text of the data leaves the build with them."""
