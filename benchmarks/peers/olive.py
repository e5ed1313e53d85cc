"""Olive's documented CPU passes, by `olive run`: OnnxConversion, OrtTransformersOptimization, OnnxDynamicQuantization.

Its fusions recognise attention only where transformers computed it eagerly, so both ways are built. `olive optimize
--precision int8` needs a calibration set from the hub and does not finish here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.recipes import Plan, Recipe, Step
from stages.core import artifact

COMMAND = Path(".venv-olive/bin/olive")


def workflow(checkpoint: Path, out: Path, attention: str, *, integer: bool) -> dict[str, Any]:
    """Compose one run's configuration, with a cache of its own so that every build is a cold one."""
    config = artifact.read_json(checkpoint / "config.json")
    passes: dict[str, Any] = {
        "conversion": {"type": "OnnxConversion", "target_opset": 20, "use_dynamo_exporter": False},
        "fusion": {
            "type": "OrtTransformersOptimization",
            "hidden_size": config["hidden_size"],
            "model_type": "bert",  # what ONNX Runtime's optimizer calls all four families
            "num_heads": config["num_attention_heads"],
            "opt_level": 1,
        },
    }
    if integer:
        passes["quantization"] = {"type": "OnnxDynamicQuantization"}
    device = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    return {
        "cache_dir": str(out / "cache"),
        "host": "local",
        "input_model": {
            "load_kwargs": {"attn_implementation": attention},
            "model_path": str(checkpoint),
            "task": "text-classification",
            "type": "HfModel",
        },
        "log_severity_level": 2,
        "output_dir": str(out / "model"),
        "passes": passes,
        "systems": {"local": {"accelerators": [device], "type": "LocalSystem"}},
        "target": "local",
    }


def plan(checkpoint: Path, work: Path) -> Plan:
    """Write the configurations for one checkpoint and list the commands."""
    steps, recipes = [], []
    for attention in ("sdpa", "eager"):
        for precision in ("fp32", "int8"):
            name, out = f"olive {attention} {precision}", work / f"{attention}-{precision}"
            file = out.with_suffix(".json")
            artifact.write_json(file, workflow(checkpoint, out, attention, integer=precision == "int8"))
            product = out / "model" / "model.onnx"
            steps.append(Step(name, (str(COMMAND), "run", "--config", str(file)), product))
            recipes.append(Recipe("olive", name, "fp32" if precision == "fp32" else "reduced", product, (name,)))
    return Plan(tuple(steps), tuple(recipes))
