"""Optimum's documented CPU recipes, by its command line: export, `--optimize O3`, dynamic int8."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.recipes import Plan, Recipe, Step

COMMAND = Path(".venv-optimum/bin/optimum-cli")
QUANTIZED = {
    "avx2": ("fp32", "--avx2"),
    "avx2 per channel": ("fp32", "--avx2", "--per_channel"),
    "avx512_vnni per channel": ("fp32", "--avx512_vnni", "--per_channel"),
    "O3 + avx2": ("O3", "--avx2"),
}
"""Row → the export it starts from, and the options."""


def plan(checkpoint: Path, work: Path) -> Plan:
    """List the commands for one checkpoint."""
    export = (str(COMMAND), "export", "onnx", "--model", str(checkpoint), "--task", "text-classification")
    exports = {"fp32": (), "O3": ("--optimize", "O3")}
    steps = [
        Step(f"optimum {name}", (*export, *options, str(work / name)), work / name / "model.onnx")
        for name, options in exports.items()
    ]
    recipes = [
        Recipe("optimum", f"optimum {name}", "fp32", work / name / "model.onnx", (f"optimum {name}",))
        for name in exports
    ]
    for name, (source, *options) in QUANTIZED.items():
        out = work / name.replace(" ", "_")
        command = (str(COMMAND), "onnxruntime", "quantize", "--onnx_model", str(work / source), *options)
        product = out / "model_quantized.onnx"
        steps.append(Step(f"optimum {name}", (*command, "--output", str(out)), product))
        needed = (f"optimum {source}", f"optimum {name}")
        recipes.append(Recipe("optimum", f"optimum {name} int8", "reduced", product, needed))
    return Plan(tuple(steps), tuple(recipes))
