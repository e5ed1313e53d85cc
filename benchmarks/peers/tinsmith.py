"""Our own stages, one command each as in dvc.yaml, for every precision that onnx-cpu supports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from benchmarks.peers.recipes import Plan, Recipe, Step
from stages.core import params
from stages.schema.naming import options, variant_name
from stages.schema.variant import Float, Precision, SourceBlocks
from stages.targets.onnx_cpu import supports
from stages.targets.onnx_cpu.graph import MODEL

CONF = Path("conf")
TARGET = "onnx-cpu"
MAX_LENGTH = 64
"""Of the longest timed input; the checkpoints have as many positions."""
PAIR = ("tinsmith fp32", "tinsmith dynamic_wi8_afp32")
"""The rows whose joint cost is held against the peers'."""
INTAKE = tuple(
    f"tinsmith {one}" for one in ("prepare data", "teacher teacher", "distill student", "compress compressed/none")
)
"""What a checkpoint costs once, before it is converted: data, safety checks, profile."""


def overrides(checkpoint: Path, data: Path) -> list[str]:
    """Say in conf/'s words: this checkpoint as it is, on CLINC150, for one platform."""
    return [
        "data=clinc150",
        f"data.path={data}",
        "teacher=checkpoint",
        f"teacher.path={checkpoint}",
        "student=none",
        f"task.max_length={MAX_LENGTH}",
        f"task.sequence_lengths=[{MAX_LENGTH}]",
        f"variant=[{','.join(variant_name(TARGET, 'none', precision) for precision in _supported())}]",
    ]


def compose(checkpoint: Path, data: Path, work: Path) -> Step:
    """The step that writes the parameters all others read."""
    file = work / "params.yaml"
    command = ("stages.compose", "--params", str(file), *overrides(checkpoint, data))
    return Step("tinsmith compose", (sys.executable, "-m", *command), file)


def plan(work: Path) -> Plan:
    """List the commands for one checkpoint, from the parameters that `compose` wrote.

    A row's cost is what follows `INTAKE`: the reference, the conversion, the precision and the parity checks.
    """
    converted = f"converted/none-{TARGET}"
    intake = [
        _step(work, "prepare", "data"),
        _step(work, "teacher", "teacher", data="data"),
        _step(work, "distill", "student", data="data", teacher="teacher", transfer="transfer"),
        _step(work, "compress", "compressed/none", name="none", data="data", checkpoint="student"),
    ]
    shared = [
        _step(work, "reference", "reference/none", data="data", checkpoint="compressed/none"),
        _step(work, "convert", converted, target=TARGET, checkpoint="compressed/none"),
    ]
    steps, recipes = [*intake, *shared], []
    for key, precision in _precisions(params.read(work / "params.yaml")["precisions"]).items():
        places = {"converted": converted, "reference": "reference/none"}
        checked = places | {"checkpoint": "compressed/none", "teacher": "teacher", "data": "data"}
        own = [
            _step(work, "quantize", f"artifact/{key}", target=TARGET, precision=key, **places),
            _step(work, "parity", f"parity/{key}", target=TARGET, artifact=f"artifact/{key}", **checked),
        ]
        steps += own
        needed = tuple(step.name for step in (*shared, *own))
        model = work / "artifact" / key / MODEL
        full = isinstance(precision, Float) and precision.bits == 32
        recipes.append(Recipe("tinsmith", f"tinsmith {key}", "fp32" if full else "reduced", model, needed))
    return Plan(tuple(steps), tuple(recipes))


def _supported() -> list[str]:
    files = {name: CONF / "precision" / f"{name}.yaml" for name in options(CONF, "precision")}
    found = _precisions({name: yaml.safe_load(file.read_text(encoding="utf-8")) for name, file in files.items()})
    # What keeps a GGUF file's own levels has none to keep here.
    return [name for name, one in found.items() if supports(one) and not isinstance(one, SourceBlocks)]


def _precisions(tree: dict[str, Any]) -> dict[str, Precision]:
    adapter: TypeAdapter[Precision] = TypeAdapter(Precision)
    return {key: adapter.validate_python(value) for key, value in tree.items()}


def _step(work: Path, stage: str, out: str, **options: str) -> Step:
    """One stage; options that are no names are places in the build directory."""
    command = [sys.executable, "-m", f"stages.{stage}", "--params", str(work / "params.yaml"), "--out", str(work / out)]
    for option, value in options.items():
        command += [f"--{option}", value if option in {"name", "target", "precision"} else str(work / value)]
    return Step(f"tinsmith {stage} {out}", tuple(command), work / out)
