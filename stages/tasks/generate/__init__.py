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
SPEEDS = {
    "time_to_first_token_ms": "prefill",
    "prefill_tokens_per_s": "prefill",
    "decode_tokens_per_s": "decode",
    "decode_half_tokens_per_s": "decode_half",
    "decode_full_tokens_per_s": "decode_full",
    "cache_bytes_per_token": "",
}
ITEM = "token"
DEMO = "writes on"
PROMPTS = ("Once upon a time", "The", "1 + 1 =")
QUESTION = "Name a colour."
"""Beginnings that bundles show, and a chat's: ours, so that no text of the data leaves the build with them."""
