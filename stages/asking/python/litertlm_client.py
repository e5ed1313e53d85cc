"""Ask LiteRT-LM about the one file that it takes: its tokenizer, template and loop. It shows letters, and no tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.asking.python import harness


def open_client(question: harness.Question) -> harness.Ask:
    """Open the file for the CPU, without the cache of packed weights that it would leave in the bundle."""
    import litert_lm

    backend = litert_lm.Backend.CPU(thread_count=1)
    engine = litert_lm.Engine(question["file"], backend=backend, cache_dir=":nocache")
    likeliest = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
    first = [] if engine.bos_token_id is None else [engine.bos_token_id]
    spaced = engine.detokenize(engine.tokenize("a")).startswith(" ")  # a space before every text, which nobody typed

    def written(item: Mapping[str, Any]) -> str:
        if item.get("messages"):
            with engine.create_conversation(sampler_config=likeliest) as talk:
                pieces = talk.send_message_async(item["messages"][0]["content"])
                return "".join(part["text"] for piece in pieces for part in piece["content"])
        with engine.create_session(apply_prompt_template=False, sampler_config=likeliest) as session:
            session.run_prefill([item["text"]])
            whole = "".join(text for piece in session.run_decode_async() for text in piece.texts)
            return whole.removeprefix(" ") if spaced and not item["text"] else whole

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        ids = [*first, *engine.tokenize(item["text"])]
        if not item.get("writes"):
            return {"ids": ids[: question["max_length"]]}
        return {"continued": written(item), "following": None, "ids": ids, "text": None}

    return ask


if __name__ == "__main__":
    harness.main(open_client, "litert-lm-api")
