"""Ask onnxruntime-genai about the directory that it shares with Transformers.js: its tokenizer, template, loop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.asking.python import harness


def open_client(question: harness.Question) -> harness.Ask:
    """Open the directory by its own configuration."""
    import onnxruntime_genai

    model = onnxruntime_genai.Model(str(Path(question["file"]).parent))
    tokenizer = onnxruntime_genai.Tokenizer(model)

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        text = item["text"]
        if item.get("messages"):
            text = tokenizer.apply_chat_template(json.dumps(item["messages"]), add_generation_prompt=True)
        tokenizer.update_options(add_special_tokens=str(item.get("add_special_tokens", True)).lower())
        ids = [int(one) for one in tokenizer.encode(text)]
        if not item.get("writes"):
            return {"ids": ids[: question["max_length"]]}
        generator = onnxruntime_genai.Generator(model, onnxruntime_genai.GeneratorParams(model))
        generator.append_tokens(ids)
        while not generator.is_done():
            generator.generate_next_token()
        whole = generator.get_sequence(0)
        return {"following": [int(one) for one in whole[len(ids) :]], "ids": ids, "text": tokenizer.decode(whole)}

    return ask


if __name__ == "__main__":
    harness.main(open_client, "onnxruntime-genai", "onnxruntime")
