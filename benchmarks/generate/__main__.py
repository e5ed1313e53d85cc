"""Hold our language models beside torch, onnxruntime-genai and llama.cpp in one run, interleaved.

    make bench-generate                          after `dvc repro` of task=generate; --gguf FILE brings llama.cpp in
    python -m benchmarks.generate --gguf FILE --contexts 32 256 1024

CPU time per token on one thread, the processes kept alive and asked in turn, the order turned each round; the median of
the rounds. Ratios hold within one table. Divergence is from torch at fp32, over 60 tokens of test texts, fed one by
one. A peer that cannot make or run a model is a line that says so. Writes `generate.json` and `generate.md` into
`--work`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import artifact, process
from stages.measure.metrics import kl_divergence
from stages.targets.facts import runtimes

WORKER = Path(__file__).with_name("worker.py")
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    "PYTHONPATH": str(Path.cwd()),
}
REFERENCE = "torch fp32"
REQUANTIZE = (
    "import sys, llama_cpp as l; p = l.llama_model_quantize_default_params(); p.ftype = l.LLAMA_FTYPE_MOSTLY_Q4_0; \
p.allow_requantize = True; sys.exit(l.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), p))"
)


@dataclass
class Contender:
    """One model in one runtime.

    Attributes:
        python: of its environment.
        kind: as the worker names it.
        model: a file or a directory.
        size: bytes of the model's files.
        found: context → CPU seconds of prompt and token, one per round.
        failure: why there is nothing more, or empty.
        peak_rss_bytes: of the process, 60 tokens one by one included.
    """

    python: str
    kind: str
    model: Path
    size: int
    found: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    failure: str = ""
    peak_rss_bytes: int = 0
    process: Any = None

    def open(self, ids: Path, vocabulary: int) -> None:
        """Start the process; its runtime may refuse the model."""
        command = [self.python, str(WORKER), self.kind, str(self.model), str(ids), str(vocabulary)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
        self._answer("opens")

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line and wait for what it gives; nothing from a process that has failed."""
        if self.failure:
            return {}
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.failure = f"ended before: {line}"
            return {}
        return self._answer(line.split()[0])

    def _answer(self, asked: str) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            self.failure = f"failed: {asked}, exit code {self.process.wait()}"
            return {}
        found: dict[str, Any] = json.loads(line)
        self.peak_rss_bytes = max(self.peak_rss_bytes, found["peak_rss_bytes"])
        return found


def size_of(model: Path) -> int:
    """Bytes of a model's files."""
    files = (
        [model]
        if model.is_file()
        else [path for path in model.iterdir() if path.suffix in (".onnx", ".data", ".safetensors")]
    )
    return sum(path.stat().st_size for path in files)


def made(command: Sequence[str], product: Path, log: Path) -> str:
    """Run what makes a peer's model; returns why there is none, or nothing."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        code = subprocess.run(command, stdout=stream, stderr=stream, env=ENVIRONMENT, check=False).returncode
    return "" if code == 0 and product.exists() else f"not made: exit code {code}, see '{log}'"


def contenders(arguments: argparse.Namespace) -> dict[str, Contender]:
    """Find our artifacts, and let the peers make theirs of the same checkpoint."""
    checkpoint, work = arguments.checkpoint, arguments.work
    found = {REFERENCE: Contender(sys.executable, "torch", checkpoint, size_of(checkpoint))}
    for place in sorted(arguments.artifacts.glob("onnx-cpu-*")):
        found[f"ours, {place.name.removeprefix('onnx-cpu-')}"] = Contender(
            sys.executable, "tinsmith", place, size_of(place)
        )
    for precision in ("fp32", "int4"):
        out, name = work / f"genai-{precision}", f"onnxruntime-genai {precision}"
        command = [arguments.genai, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(out)]
        failure = made(
            [*command, "-p", precision, "-e", "cpu", "-c", str(work / "cache")],
            out / "model.onnx",
            out.with_suffix(".log"),
        )
        found[name] = Contender(arguments.genai, "genai", out, 0 if failure else size_of(out), failure=failure)
    if arguments.gguf is not None:
        found[f"llama.cpp, {arguments.gguf.name}"] = Contender(
            arguments.llama, "llama", arguments.gguf, size_of(arguments.gguf)
        )
        out = work / "q4_0.gguf"
        failure = made([arguments.llama, "-c", REQUANTIZE, str(arguments.gguf), str(out)], out, work / "q4_0.log")
        found["llama.cpp Q4_0"] = Contender(
            arguments.llama, "llama", out, 0 if failure else size_of(out), failure=failure
        )
    return found


def measure(found: Mapping[str, Contender], arguments: argparse.Namespace) -> None:
    """Ask all of them in turn, every other round from the other end."""
    for turn in range(arguments.rounds):
        for context in arguments.contexts:
            for one in list(found.values())[:: 1 if turn % 2 == 0 else -1]:
                answer = one.ask(f"time {context} {arguments.steps}")
                if answer:
                    one.found.setdefault(context, []).append((answer["prefill_s"], answer["decode_s"]))


def divergence(found: Mapping[str, Contender], work: Path) -> dict[str, float]:
    """Mean KL from torch at fp32 in nats, over the same tokens."""
    logits = {}
    for number, (name, one) in enumerate(found.items()):
        path = work / f"logits-{number}.npy"
        if one.ask(f"logits {path.resolve()}"):
            logits[name] = np.load(path)
    reference = logits[REFERENCE]
    return {name: float(kl_divergence(reference=reference, outputs=one).mean()) for name, one in logits.items()}


def table(found: Mapping[str, Contender], kl: Mapping[str, float], contexts: Sequence[int]) -> list[dict[str, Any]]:
    """One row per contender: medians over the rounds."""
    rows = []
    for name, one in found.items():
        row: dict[str, Any] = {"name": name, "size_bytes": one.size, "failure": one.failure}
        if one.found and not one.failure:
            median = {context: np.median(one.found[context], axis=0) for context in contexts}
            row |= {
                "decode_tokens_per_cpu_s": {str(context): 1 / float(median[context][1]) for context in contexts},
                "prefill_tokens_per_cpu_s": contexts[1] / float(median[contexts[1]][0]),
                "peak_rss_bytes": one.peak_rss_bytes,
                "kl_divergence_mean": kl.get(name),
            }
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], contexts: Sequence[int]) -> str:
    """Draw the table; ratios are over torch's decode at the middle context."""
    heads = [
        "",
        "MB",
        *(f"decode at {context}" for context in contexts),
        "over torch",
        f"prefill {contexts[1]}",
        "peak RSS, MB",
        "KL, nats",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    middle = str(contexts[1])
    base = next(row["decode_tokens_per_cpu_s"][middle] for row in rows if row["name"] == REFERENCE)
    for row in rows:
        cells = [row["name"], f"{row['size_bytes'] / 1e6:.3g}"]
        if row["failure"]:
            cells += [row["failure"]] + [""] * (len(heads) - 3)
        else:
            decode = row["decode_tokens_per_cpu_s"]
            cells += [f"{decode[str(context)]:.4g}" for context in contexts] + [f"{decode[middle] / base:.3g}×"]
            cells += [
                f"{row['prefill_tokens_per_cpu_s']:.4g}",
                f"{row['peak_rss_bytes'] / 1e6:.0f}",
                f"{row['kl_divergence_mean']:.2g}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("build/compressed/none"))
    parser.add_argument("--artifacts", type=Path, default=Path("build/artifact"))
    parser.add_argument(
        "--reference", type=Path, default=Path("build/reference/none"), help="whose test texts are read"
    )
    parser.add_argument("--gguf", type=Path, help="the same model, for llama.cpp")
    parser.add_argument("--work", type=Path, default=Path(".bench/generate"))
    parser.add_argument("--genai", default=".venv-clients/genai/bin/python", help="Python with onnxruntime-genai")
    parser.add_argument("--llama", default=".venv-llama/bin/python", help="Python with llama-cpp-python")
    parser.add_argument("--contexts", type=int, nargs=3, default=[32, 128, 256])
    parser.add_argument("--steps", type=int, default=16, help="tokens one by one behind each context")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    vocabulary = int(artifact.read_json(arguments.checkpoint / "config.json")["vocab_size"])
    found, ids = contenders(arguments), arguments.work / "ids.json"
    split = artifact.read_arrays(arguments.reference / "test.npz")
    text = np.resize(split["input_ids"][split["attention_mask"] == 1], max(*arguments.contexts, 64) + arguments.steps)
    artifact.write_json(ids, text.tolist())
    try:
        for one in found.values():
            if not one.failure:
                one.open(ids, vocabulary)
        kl = divergence(found, arguments.work)
        measure(found, arguments)
    finally:
        for one in found.values():
            if one.process is not None:
                one.process.stdin.close()
                one.process.wait()
    rows = table(found, kl, arguments.contexts)
    artifact.write_json(arguments.work / "generate.json", {"rows": rows, "host": process.host_fingerprint(runtimes())})
    drawn = markdown(rows, arguments.contexts)
    (arguments.work / "generate.md").write_text(drawn, encoding="utf-8")
    print(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
