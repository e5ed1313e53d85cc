"""Hold our LiteRT and Core ML artifacts of one checkpoint against what the scripts in `plain` write."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import building, plain, timing
from benchmarks.peers.measuring import Effort
from benchmarks.peers.recipes import Step
from benchmarks.peers.timing import Contender, Tokens
from stages.core import artifact

TARGETS = {"litert": "tflite-nnapi", "coreml": "coreml-metal"}
"""Tool of `plain` → our target."""


def steps(checkpoint: Path, work: Path, ours: Path, data: Path) -> list[Step]:
    """List both sides' commands; `ours` is the build of this checkpoint, whose intake and reference are used."""
    compose = ("stages.compose", "--params", str(work / "params.yaml"), "data=clinc150", f"data.path={data}")
    shape = (f"task.max_length={plain.LENGTH}", f"task.sequence_lengths=[{plain.LENGTH}]")
    found = [Step("compose", (sys.executable, "-m", *compose, *shape), work / "params.yaml")]
    for tool, target in TARGETS.items():
        script = ("benchmarks.peers.plain", "--tool", tool, "--checkpoint", str(checkpoint), "--out", str(work / tool))
        found.append(Step(f"plain {tool}", (sys.executable, "-m", *script), work / tool / plain.PRODUCTS[tool][-1]))
        stage = ("--params", str(work / "params.yaml"), "--target", target)
        converted = work / target / "converted"
        source = ("--checkpoint", str(ours / "compressed/none"), "--out", str(converted))
        found.append(
            Step(f"tinsmith {tool} convert", (sys.executable, "-m", "stages.convert", *stage, *source), converted)
        )
        for precision in _precisions(tool):
            places = ("--converted", str(converted), "--reference", str(ours / "reference/none"))
            out = work / target / precision
            lower = ("stages.quantize", *stage, "--precision", precision, *places, "--out", str(out))
            found.append(Step(f"tinsmith {tool} {precision}", (sys.executable, "-m", *lower), out))
    return found


def measure(work: Path, costs: Mapping[str, building.Cost], effort: Effort) -> list[dict[str, Any]]:
    """Compare size and CPU time, and latency where the runtime runs here.

    Returns:
        Per tool and precision `size`, ours over theirs; per tool `cpu`, ours over theirs; for LiteRT `speed`.
    """
    found = []
    for tool, target in TARGETS.items():
        spent = {
            side: sum(cost.cpu_s for name, cost in costs.items() if name.startswith(f"{side} {tool}"))
            for side in ("plain", "tinsmith")
        }
        for precision, product in zip(_precisions(tool), plain.PRODUCTS[tool], strict=True):
            theirs = work / tool / product
            own = next((work / target / precision).glob("model.*"))
            sizes = artifact.size_bytes(own), artifact.size_bytes(theirs)
            row: dict[str, Any] = {"target": target, "precision": precision, "cpu_s": spent, "size_bytes": sizes}
            row |= {"cpu": spent["tinsmith"] / spent["plain"], "size": sizes[0] / sizes[1]}
            if tool == "litert":
                pair = {"ours": open_tflite(own), "theirs": open_tflite(theirs)}
                ids = np.random.default_rng(0).integers(1, 1000, (1, plain.LENGTH), dtype=np.int32)
                samples = timing.interleave(pair, [ids], effort.rounds * effort.repeats)
                row["speed"] = timing.compare(samples["theirs"], samples["ours"])
            else:
                row["not_measured"] = "Core ML runs on macOS only"
            found.append(row)
    return found


def open_tflite(model: Path) -> Contender:
    """Open a file with one signature; `plain` leaves its inputs unnamed, in the order ids, mask."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model), num_threads=1)
    runner = interpreter.get_signature_runner()
    ids_name, mask_name = sorted(runner.get_input_details(), key=lambda name: name not in {"input_ids", "args_0"})

    def feed(ids: Tokens) -> dict[str, Tokens]:
        return {ids_name: ids, mask_name: np.ones_like(ids)}

    return Contender(feed, lambda inputs: next(iter(runner(**inputs).values())))


def _precisions(tool: str) -> list[str]:
    return [Path(product).stem for product in plain.PRODUCTS[tool]]
