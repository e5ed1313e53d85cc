"""Continue texts with a bundle's hf/ directory in onnxruntime-genai.

pip install onnxruntime-genai
python samples/generate_genai.py "Once upon a time"
"""

import json
import sys
from pathlib import Path

import onnxruntime_genai

BUNDLE = Path(__file__).absolute().parent.parent
LIMITS = json.loads((BUNDLE / "limits.json").read_text(encoding="utf-8"))


def main(texts: list[str]) -> None:
    """Print each text as it grows."""
    model = onnxruntime_genai.Model(str(BUNDLE / "hf"))
    tokenizer = onnxruntime_genai.Tokenizer(model)
    # Without, it leaves out what tokenizer.json puts before a text, and writes another text without an error.
    tokenizer.update_options(add_special_tokens="true")
    for text in texts:
        request = onnxruntime_genai.GeneratorParams(model)
        request.set_search_options(max_length=LIMITS["max_length"])
        generator, stream = onnxruntime_genai.Generator(model, request), tokenizer.create_stream()
        generator.append_tokens(tokenizer.encode(text))
        print(text, end="")
        while not generator.is_done():
            generator.generate_next_token()
            print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
