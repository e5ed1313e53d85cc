"""Ask the sample that lies in the bundle: ONNX Runtime and the `tokenizers` library alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from stages.asking.python import harness


def open_client(question: harness.Question) -> harness.Ask:
    """Import the sample as a program would that was built from it."""
    bundle = Path(question["file"]).parent
    found = spec_from_file_location("sample", bundle / "samples/generate_onnx.py")
    assert found is not None
    assert found.loader is not None
    sample = module_from_spec(found)
    found.loader.exec_module(sample)
    generator = sample.Generator(bundle)

    def ask(item: Mapping[str, Any]) -> harness.Answer:
        ids = generator.encode(item["text"], add_special_tokens=item.get("add_special_tokens", True))
        if not item.get("writes"):
            return {"ids": ids[: question["max_length"]]}
        return {"following": list(generator.generate(ids)), "ids": ids, "text": "".join(generator.stream(ids))}

    return ask


if __name__ == "__main__":
    harness.main(open_client, "onnxruntime", "tokenizers")
