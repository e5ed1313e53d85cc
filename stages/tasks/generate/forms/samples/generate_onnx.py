"""Continue texts with a bundle's model.onnx: ONNX Runtime, the `tokenizers` library, numpy.

python samples/generate_onnx.py "Once upon a time"
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BUNDLE = Path(__file__).absolute().parent.parent
UNFINISHED = "\ufffd"
PIECE = 128  # tokens read at once: attention scores every pair of them, and more would take memory and time


class Generator:
    """A language model that writes the likeliest token each time.

    Attributes:
        ended_by: what ended the last text: `a stop id`, or `max_length` where there was no more room.
    """

    def __init__(self, bundle: Path) -> None:
        """Open a bundle."""
        limits = json.loads((bundle / "limits.json").read_text(encoding="utf-8"))
        self.room, self.stops = limits["max_length"], set(limits["generation"]["stop_ids"])
        self.tokenizer = Tokenizer.from_file(str(bundle / "tokenizer" / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
        self.ended_by = ""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return ids. A chat's text comes from its template, which has its special tokens already."""
        return list(self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def generate(self, ids: list[int]) -> Iterator[int]:
        """Read a text in a few pieces, then yield token by token what follows.

        Raises:
            ValueError: it leaves no room for another token.
        """
        if not 0 < len(ids) < self.room:
            raise ValueError(f"{len(ids)} tokens given; at least 1 and fewer than {self.room} are taken")
        # One buffer for each key and value, read and written in place: a token costs the same, however long the text.
        binding = self.session.io_binding()
        for item in self.session.get_inputs():
            if item.name.startswith("past_key_values"):
                shape = [size if isinstance(size, int) else self.room for size in item.shape]
                buffer = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                binding.bind_ortvalue_input(item.name, buffer)
                binding.bind_ortvalue_output(item.name.replace("past_key_values", "present"), buffer)
        binding.bind_output("logits")
        length, fed, self.ended_by = 0, ids, "max_length"
        while length + len(fed) < self.room:
            for start in range(0, len(fed), PIECE):
                piece = fed[start : start + PIECE]
                length += len(piece)
                binding.bind_cpu_input("input_ids", np.array([piece], np.int64))
                binding.bind_cpu_input("attention_mask", np.ones((1, length), np.int64))
                self.session.run_with_iobinding(binding)
            logits = binding.get_outputs()[-1].numpy()
            fed = [int(logits[0, -1].argmax())]
            if fed[0] in self.stops:
                self.ended_by = "a stop id"
            yield fed[0]
            if self.ended_by == "a stop id":
                return

    def stream(self, ids: list[int]) -> Iterator[str]:
        """Yield the text itself, then each further piece that is complete."""
        shown = ""
        for following in self._growing(ids):
            text = self.tokenizer.decode(following)
            if not text.endswith(UNFINISHED) and text.startswith(shown):  # a character may take several tokens
                yield text[len(shown) :]
                shown = text
        yield self.tokenizer.decode(following)[len(shown) :]

    def _growing(self, ids: list[int]) -> Iterator[list[int]]:
        whole = list(ids)
        yield whole
        for token in self.generate(ids):
            whole.append(token)
            yield whole


def main(texts: list[str]) -> None:
    """Print each text as it grows."""
    generator = Generator(BUNDLE)
    for text in texts:
        for piece in generator.stream(generator.encode(text)):
            print(piece, end="", flush=True)
        print(f"\n[ended by {generator.ended_by}]")


if __name__ == "__main__":
    main(sys.argv[1:])
