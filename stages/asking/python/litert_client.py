"""Ask LiteRT about the raw model, with `tokenizers` before it."""

from __future__ import annotations

from stages.asking.python import harness
from stages.asking.python.signatures import asking


def open_client(question: harness.Question) -> harness.Ask:
    """Open every signature."""
    from ai_edge_litert.interpreter import Interpreter
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(question["tokenizer"])
    tokenizer.enable_truncation(question["max_length"])
    return asking(Interpreter(model_path=question["file"]), lambda item: list(tokenizer.encode(item["text"]).ids))


if __name__ == "__main__":
    harness.main(open_client, "ai-edge-litert", "tokenizers")
