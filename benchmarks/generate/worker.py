"""Hold one language model in one runtime, and do what lines on stdin say; each is answered by a line of JSON.

    python worker.py RUNTIME MODEL IDS VOCABULARY     RUNTIME: torch | tinsmith | genai | llama

`time CONTEXT STEPS` reads that many tokens at once, then as many one by one: CPU seconds of the former, the median of
the latter. `logits FILE` reads the first of IDS (a JSON list) one by one and writes what follows each, fp32 [tokens,
vocabulary]. One thread; numpy and the runtime alone are imported, so that peak memory is theirs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

PIECE = 128
"""Tokens that the bundle's sample reads at once."""
TOKENS = 60
"""Of the text whose logits are compared."""


class Runtime(Protocol):
    """Continues one text at a time."""

    def begin(self) -> None:
        """Forget what was read."""

    def read(self, ids: list[int]) -> Any:
        """Read further tokens, and return the logits of what follows the last: [vocabulary]."""


class Torch:
    """Transformers, as `from_pretrained` gives it."""

    def __init__(self, model: str) -> None:
        """Open a checkpoint."""
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        torch.set_num_threads(1)
        self.torch, self.cache = torch, DynamicCache
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, local_files_only=True)
        self.model.eval()

    def begin(self) -> None:
        """See `Runtime`."""
        self.past = self.cache()

    def read(self, ids: list[int]) -> Any:
        """See `Runtime`."""
        given = {"past_key_values": self.past, "use_cache": True, "logits_to_keep": 1}
        with self.torch.inference_mode():
            return self.model(input_ids=self.torch.tensor([ids]), **given).logits[0, -1].numpy()


class Tinsmith:
    """An artifact of onnx-cpu as the bundle's sample runs it, with a cache of the benchmark's room and not its own."""

    def __init__(self, model: str, room: int) -> None:
        """Open an artifact."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(f"{model}/model.onnx", options, providers=providers)
        self.binding, self.length = self.session.io_binding(), 0
        for item in self.session.get_inputs():
            if item.name.startswith("past_key_values"):
                shape = [size if isinstance(size, int) else room for size in item.shape]
                buffer = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                self.binding.bind_ortvalue_input(item.name, buffer)
                self.binding.bind_ortvalue_output(item.name.replace("past_key_values", "present"), buffer)
        self.binding.bind_output("logits")

    def begin(self) -> None:
        """See `Runtime`."""
        self.length = 0

    def read(self, ids: list[int]) -> Any:
        """See `Runtime`."""
        for start in range(0, len(ids), PIECE):
            piece = ids[start : start + PIECE]
            self.length += len(piece)
            self.binding.bind_cpu_input("input_ids", np.asarray([piece], np.int64))
            self.binding.bind_cpu_input("attention_mask", np.ones((1, self.length), np.int64))
            self.session.run_with_iobinding(self.binding)
        return self.binding.get_outputs()[-1].numpy()[0, -1]


class Genai:
    """onnxruntime-genai with its own builder's model."""

    def __init__(self, model: str, room: int, vocabulary: int) -> None:
        """Open a directory of the builder."""
        import onnxruntime_genai  # type: ignore[import-not-found]

        self.library, self.room, self.vocabulary = onnxruntime_genai, room, vocabulary
        config = onnxruntime_genai.Config(model)
        threads = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        self.model = onnxruntime_genai.Model(config)

    def begin(self) -> None:
        """See `Runtime`."""
        settings = self.library.GeneratorParams(self.model)
        settings.set_search_options(max_length=self.room, do_sample=False)
        self.generator = self.library.Generator(self.model, settings)

    def read(self, ids: list[int]) -> Any:
        """See `Runtime`."""
        self.generator.append_tokens(np.asarray(ids, np.int32))
        return np.asarray(self.generator.get_logits(), np.float32).reshape(-1, self.vocabulary)[-1]


class Llama:
    """llama.cpp through llama-cpp-python."""

    def __init__(self, model: str, room: int, vocabulary: int) -> None:
        """Open a GGUF file."""
        import llama_cpp  # type: ignore[import-not-found]

        self.library, self.vocabulary = llama_cpp, vocabulary
        threads = {"n_threads": 1, "n_threads_batch": 1}
        self.model = llama_cpp.Llama(model, n_ctx=room, n_batch=512, verbose=False, **threads)

    def begin(self) -> None:
        """See `Runtime`."""
        self.model.reset()

    def read(self, ids: list[int]) -> Any:
        """See `Runtime`."""
        self.model.eval(ids)
        found = self.library.llama_get_logits_ith(self.model._ctx.ctx, -1)
        return np.ctypeslib.as_array(found, shape=(self.vocabulary,))


def opened(kind: str, model: str, room: int, vocabulary: int) -> Runtime:
    """Open a model in a runtime."""
    if kind == "torch":
        return Torch(model)
    if kind == "tinsmith":
        return Tinsmith(model, room)
    return Genai(model, room, vocabulary) if kind == "genai" else Llama(model, room, vocabulary)


def peak_rss_bytes() -> int:
    """The most memory this process has held: VmHWM, since `ru_maxrss` remembers the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def timed(runtime: Runtime, context: int, steps: int, ids: list[int]) -> dict[str, float]:
    """CPU seconds of a prompt, and of the median token behind it."""
    runtime.begin()
    start = time.process_time()
    runtime.read(ids[:context])
    prompt, spent = time.process_time() - start, []
    for at in range(context, context + steps):
        start = time.process_time()
        runtime.read(ids[at : at + 1])
        spent.append(time.process_time() - start)
    return {"prefill_s": prompt, "decode_s": float(np.median(spent)), "peak_rss_bytes": peak_rss_bytes()}


def main() -> None:
    """Answer until stdin ends; what a runtime itself prints goes to stderr."""
    kind, model, vocabulary = sys.argv[1], sys.argv[2], int(sys.argv[4])
    ids = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    runtime = opened(kind, model, len(ids), vocabulary)
    print(json.dumps({"peak_rss_bytes": peak_rss_bytes()}), file=answers)
    for line in sys.stdin:
        command, *given = line.split()
        if command == "time":
            answer = timed(runtime, int(given[0]), int(given[1]), ids)
        else:
            runtime.begin()
            np.save(given[0], np.stack([np.array(runtime.read(ids[at : at + 1]), np.float32) for at in range(TOKENS)]))
            answer = {"peak_rss_bytes": float(peak_rss_bytes())}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
