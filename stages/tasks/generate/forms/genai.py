"""`genai_config.json`: what onnxruntime-genai reads beside the graph and the tokenizer."""

from __future__ import annotations

import json
from typing import Any

from stages.releasing.source import Source
from stages.targets.onnx_cpu import graph
from stages.tasks.base import IDS, MASK
from stages.tasks.generate.forms import rules

CONFIG = "genai_config.json"
KIND = "decoder"
"""Of a model: any whose graph has these inputs and outputs."""
TRIED = "BPE"
"""Kind of tokenizer that onnxruntime-genai 0.18.0 was seen to read rightly."""
DIGITS = set("0123456789")
SEARCH = ("do_sample", "min_length", "num_beams", "repetition_penalty", "temperature", "top_k", "top_p")


def why_not(source: Source) -> str:
    """Say why onnxruntime-genai cannot take the bundle; nothing where it can."""
    rules = source.tokenization.content
    kind = rules["model"].get("type")
    if kind != TRIED:
        return f"onnxruntime-genai was tried with {TRIED} tokenizers alone, and this is {kind}"
    added = {token["content"] for token in rules["added_tokens"]}
    mixed = (
        piece for piece in rules["model"]["vocab"] if len(piece) > 1 and set(piece) & DIGITS and piece not in added
    )
    if '"Digits"' in json.dumps(rules.get("pre_tokenizer")) and (piece := next(mixed, "")):
        return f"onnxruntime-genai 0.18.0 does not split digits, and the vocabulary has {json.dumps(piece)}"
    return ""


def config(source: Source, form: str) -> str:
    """Return the file.

    `max_length` is what a request gets that names none: without it, memory is taken for the whole context.

    Args:
        source: the variant.
        form: the graph's path beside the file.
    """
    (call,) = source.signature.calls
    said, checkpoint = rules.defaults(source.checkpoint), source.config
    _, groups, _, size = call.states[0].axes
    stops = rules.stops(said)
    names = (("past_key_names", "past_value_names"), ("present_key_names", "present_value_names"))
    before, after = (
        dict(zip(kinds, (f"{stem}.%d.key", f"{stem}.%d.value"), strict=True))
        for stem, kinds in zip((graph.PAST_VALUES, graph.following(graph.PAST_VALUES)), names, strict=True)
    )
    decoder: dict[str, Any] = {
        "filename": form,
        "head_size": size,
        "hidden_size": checkpoint["hidden_size"],
        "inputs": {IDS: IDS, MASK: MASK, **before},
        "num_attention_heads": checkpoint["num_attention_heads"],
        "num_hidden_layers": len(call.states) // 2,
        "num_key_value_heads": groups,
        "outputs": {"logits": "logits", **after},
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
    }
    padding = checkpoint.get("pad_token_id")
    begin = said.get("bos_token_id", checkpoint.get("bos_token_id"))
    model = {
        "bos_token_id": begin if begin is not None else 0,
        "context_length": checkpoint["max_position_embeddings"],
        "decoder": decoder,
        "eos_token_id": stops,
        "pad_token_id": padding if padding is not None else (stops or [0])[0],
        "type": KIND,
        "vocab_size": checkpoint["vocab_size"],
    }
    search = {"do_sample": False, **{key: said[key] for key in SEARCH if key in said}}
    search |= {"max_length": source.max_length, "past_present_share_buffer": True}
    return rules.dumped({"model": model, "search": search})
