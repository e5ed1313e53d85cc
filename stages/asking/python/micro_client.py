"""Ask tflite-micro's Python interpreter, which stands for microcontrollers: its operators, and its arena of memory.

It executes the first subgraph of a file and knows no signatures, so that each is asked as a file of its own, as an
application would flash the one that it needs. It is given the reference's ids.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stages.asking.python import harness

USED = re.compile(r"Arena allocation total (\d+) bytes")
ROOM = 64 << 20
"""Bytes to begin with; what of them was used is what a device needs."""


def open_client(question: harness.Question) -> harness.Ask:
    """Open every signature in an arena, and say how much of it the longest uses."""
    calls = {length: _Call(data, inputs) for length, data, inputs in _signatures(Path(question["file"]).read_bytes())}

    def ask(item: Any) -> harness.Answer:
        ids = list(item["ids"])
        length = min(length for length in calls if length >= len(ids))
        return harness.labelled(harness.softmax(calls[length].run(ids, length)), ids)

    return harness.Telling(ask, {"arena_bytes": max(call.arena_bytes for call in calls.values())})


class _Call:
    """One signature in an interpreter of its own."""

    def __init__(self, data: bytes, inputs: list[str]) -> None:
        from tflite_micro.python.tflite_micro import runtime

        self.inputs = inputs
        with _said() as said:
            try:
                config = runtime.InterpreterConfig.kAllocationRecording
                self.interpreter = runtime.Interpreter.from_bytes(data, arena_size=ROOM, intrepreter_config=config)
                self.interpreter.print_allocations()
            except Exception as error:  # it says on stderr what it lacks, and raises that something went wrong
                raise RuntimeError(_reason(said()) or str(error)) from error
            found = USED.search(said())
        if found is None:
            raise RuntimeError(f"it does not say how much of its arena it uses: {said()[-200:]!r}")
        self.arena_bytes = int(found[1])

    def run(self, ids: list[int], length: int) -> Any:
        """Return logits, dequantised: [labels]."""
        row, mask = np.zeros((2, 1, length), np.int32)
        row[0, : len(ids)], mask[0, : len(ids)] = ids, 1
        given = {"input_ids": row, "attention_mask": mask}
        for index, name in enumerate(self.inputs):
            self.interpreter.set_input(given[name], index)
        self.interpreter.invoke()
        logits = np.asarray(self.interpreter.get_output(0), np.float32)[0]
        grid = self.interpreter.get_output_details(0)["quantization_parameters"]
        return (logits - grid["zero_points"][0]) * grid["scales"][0] if len(grid["scales"]) else logits


def _signatures(data: bytes) -> Iterator[tuple[int, bytes, list[str]]]:
    """Yield each signature as a file that has nothing else: its length, the bytes, the names of inputs in order."""
    import flatbuffers
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    whole = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for signature in whole.signatureDefs:
        graph = whole.subgraphs[signature.subgraphIndex]
        alone = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
        alone.subgraphs, alone.signatureDefs, alone.metadata = [graph], [], []
        used = {tensor.buffer for tensor in graph.tensors}
        for index, buffer in enumerate(alone.buffers):
            if index not in used:
                buffer.data = None
        builder = flatbuffers.Builder(len(data))
        builder.Finish(alone.Pack(builder), b"TFL3")
        names = {item.tensorIndex: item.name.decode() for item in signature.inputs}
        order = [names[index] for index in graph.inputs]
        yield int(graph.tensors[graph.inputs[0]].shape[-1]), bytes(builder.Output()), order


def _reason(said: str) -> str:
    """Return what the interpreter complained of: its first lines, without what it says of its memory."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and "[RecordingMicroAllocator]" not in line]
    return " ".join(lines[:3])


@contextmanager
def _said() -> Iterator[Callable[[], str]]:
    """Catch what native code writes on stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:

        def read() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")

        os.dup2(log.fileno(), 2)
        try:
            yield read
        finally:
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    harness.main(open_client, "tflite-micro")
