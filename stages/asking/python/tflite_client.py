"""Ask the last release of tflite-runtime, which stands for the TFLite of 2023 that apps still carry.

It is given the reference's ids. Per-channel int8 is beyond it: it must refuse such a file, and would answer nonsense to
one that does not say which kernels it needs.
"""

from __future__ import annotations

from stages.asking.python import harness
from stages.asking.python.signatures import asking


def open_client(question: harness.Question) -> harness.Ask:
    """Open every signature."""
    from tflite_runtime.interpreter import Interpreter

    return asking(Interpreter(model_path=question["file"]), lambda item: list(item["ids"]))


if __name__ == "__main__":
    harness.main(open_client, "tflite-runtime")
