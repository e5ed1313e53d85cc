"""Say where a model's time goes: the fastest run of each node, summed by operator."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.peers.timing import DTYPES, Tokens
from stages.core import artifact

RUNS = 200


def profile(model: Path, ids: Tokens) -> dict[str, Any]:
    """Run a model under ONNX Runtime's profiler, which costs a microsecond or two per node: read shares, not sums.

    Args:
        model: ONNX file.
        ids: int32 [1, n].

    Returns:
        `nodes` after ONNX Runtime's own optimisation, `total_us`; by operator `count`, `us`, `share`, slowest first.
    """
    import numpy as np
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        feed = {item.name: values[item.name].astype(DTYPES[item.type]) for item in session.get_inputs()}
        for _ in range(RUNS):
            session.run(None, feed)
        events = artifact.read_json(Path(session.end_profiling()))
    return summarise(events)


def summarise(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Reduce a profile's events; see `profile`."""
    fastest: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"]
            fastest[key] = min(event["dur"], fastest.get(key, event["dur"]))
    spent: Counter[str] = Counter()
    for (operator, _), duration in fastest.items():
        spent[operator] += duration  # type: ignore[assignment]
    count = Counter(operator for operator, _ in fastest)
    total = sum(spent.values())
    operators = [
        {"operator": name, "count": count[name], "us": us, "share": us / total} for name, us in spent.most_common()
    ]
    return {"nodes": len(fastest), "total_us": total, "operators": operators}
