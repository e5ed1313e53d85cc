"""The headline: the fp32 teacher in eager torch against every variant of a finished build, at true lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import quality, timing
from benchmarks.peers.measuring import Effort
from benchmarks.peers.timing import Contender, Tokens
from stages.core import artifact, splits
from stages.targets import registry
from stages.targets.base import Session
from stages.tasks.base import FORWARD

TEACHER = "teacher, eager torch fp32"
GOALS = {"faster": 30.0, "retained": 0.995, "smaller": 30.0}


def measure(build: Path, effort: Effort) -> list[dict[str, Any]]:
    """Time what can be timed here beside the teacher, in one process.

    Args:
        build: of `dvc repro`, the teacher among it, with a variant of compression `none`.
        effort: how long.

    Returns:
        Per variant `accuracy`, `retained`, `size_bytes`, `smaller`, `verdict`; `latency_ms` and `faster`, or
        `not_measured`; the teacher first.
    """
    entries = artifact.read_json(build / "verdicts.json")["variants"]
    compressions = {"none", *(entry["compression"] for entry in entries.values())}
    given = {name: artifact.read_arrays(build / "reference" / name / "test.npz") for name in compressions}
    tokens = {name: quality.true_lengths(split) for name, split in given.items()}
    own = as_cut(build / "teacher", build / "data", given["none"]["input_ids"].shape[1])
    contenders = {TEACHER: _answering(timing.open_torch(build / "teacher"), own)}
    reasons = {}
    for key, entry in entries.items():
        module = registry.runtime(entry["target"])
        reason = module.timing_unavailable()
        if reason is None:
            runtime = _open(module.open_runtime(build / "artifact" / key, threads=1))
            contenders[key] = _answering(runtime, tokens[entry["compression"]])
        else:
            reasons[key] = reason
    count = len(tokens["none"])
    chosen = np.random.default_rng(0).choice(count, min(effort.utterances, count), replace=False).astype(np.int32)
    samples = timing.interleave(contenders, list(chosen.reshape(-1, 1, 1)), effort.repeats)
    accuracy = artifact.read_json(build / "teacher/evaluation.json")["accuracy"]
    size = (build / "teacher/model.safetensors").stat().st_size
    rows: list[dict[str, Any]] = [
        {"accuracy": accuracy, "latency_ms": timing.describe(samples[TEACHER]), "name": TEACHER, "size_bytes": size}
    ]
    for key, entry in entries.items():
        row = _row(build, key, entry, accuracy, size)
        if key in samples:
            latency = timing.describe(samples[key])
            row |= {"faster": timing.compare(samples[TEACHER], samples[key]), "latency_ms": latency}
        else:
            row["not_measured"] = reasons[key]
        rows.append(row)
    return rows


def as_cut(checkpoint: Path, data: Path, length: int) -> list[Tokens]:
    """Return the test split as a checkpoint's own tokenizer cuts it: a student may have pieces of its own.

    Args:
        checkpoint: with a tokenizer.
        data: output of `prepare`.
        length: tokens of the longest.
    """
    from stages.models.checkpoint import load_tokenizer
    from stages.models.encode import encode

    encoded = encode(load_tokenizer(checkpoint), splits.read_split(data, "test").texts, length)
    return quality.true_lengths({"attention_mask": encoded.attention_mask, "input_ids": encoded.input_ids})


def _open(session: Session) -> Contender:
    def feed(ids: Tokens) -> dict[str, Tokens]:
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    return Contender(feed, lambda inputs: session.run(FORWARD, inputs)["logits"])


def _answering(contender: Contender, utterances: Sequence[Tokens]) -> Contender:
    """Make it answer rows of the test split, int32 [1, 1]: a pruned vocabulary has other ids for the same text."""
    return Contender(lambda row: contender.feed(utterances[int(row[0, 0])]), contender.run)


def _row(build: Path, key: str, entry: dict[str, Any], accuracy: float, size: int) -> dict[str, Any]:
    own = artifact.read_json(build / "parity" / key / "metrics.json")["test"]["values"]["accuracy"]
    size_bytes = artifact.read_json(build / "benchmark" / key / "metrics.json")["values"]["size_bytes"]
    return {
        "accuracy": own,
        "name": key,
        "retained": own / accuracy,
        "size_bytes": size_bytes,
        "smaller": size / size_bytes,
        "target": entry["target"],
        "verdict": entry["verdict"],
    }
