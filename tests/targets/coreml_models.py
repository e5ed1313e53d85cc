"""Core ML packages of every precision, made in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from stages.core import artifact
from stages.schema.task import Task
from stages.schema.variant import Float, Mixed, Palettized, Static, WeightOnly
from stages.targets.coreml_metal import (
    package,
    quantize,
    toolchain,
)
from stages.targets.coreml_metal.package import PACKAGE, WEIGHTS
from tests.toys.targets import coreml

LENGTHS = [8, 16]
TASK = Task(name="classify", max_length=16, sequence_lengths=LENGTHS)
TARGET = coreml()
FP32, FP16 = Float(kind="float", bits=32), Float(kind="float", bits=16)
WI8 = WeightOnly(kind="weight_only", weight_bits=8, granularity="channel")
WI4 = WeightOnly(kind="weight_only", weight_bits=4, granularity="channel")
WI4B32 = WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32")
PAL2, PAL4, PAL6 = (
    Palettized(kind="palettized", weight_bits=bits, granularity="tensor", sparsity=0) for bits in (2, 4, 6)
)
PAL4G16 = Palettized(kind="palettized", weight_bits=4, granularity="channels_16", sparsity=0)
PAL4S50 = Palettized(kind="palettized", weight_bits=4, granularity="tensor", sparsity=0.5)
MIXED = Mixed(kind="mixed", low=PAL4, high=WI8, among="all", kl_budget=0.05, utterances=4)
STATIC = Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor")
PRECISIONS = {"fp32": FP32, "fp16": FP16, "wi8": WI8, "wi4b32": WI4B32, "static": STATIC}
PRECISIONS |= {"pal2": PAL2, "pal4": PAL4, "pal6": PAL6, "pal4g16": PAL4G16, "pal4s50": PAL4S50}
UTTERANCE = [2, 5, 6, 7, 3]
TRUE_LENGTHS = np.array([5, 3, 8, 9, 16])[:, None]
CALIBRATION = {
    "input_ids": np.random.default_rng(0).integers(5, 49, (5, 16), np.int32) * (np.arange(16) < TRUE_LENGTHS),
    "attention_mask": (np.arange(16) < TRUE_LENGTHS).astype(np.int32),
}
CALIBRATION["input_ids"][0, :5] = UTTERANCE

# Runs in a process of its own: converts one checkpoint, then lowers it; prints what quantize alone imported.
WORKER = """
import json
import sys
from pathlib import Path
import numpy as np
from pydantic import TypeAdapter
from stages.schema.task import Task
from stages.schema.variant import CoremlMetal, Precision
step, source, out, task, target, calibration, *precision = sys.argv[1:]
target = CoremlMetal.model_validate_json(target)
if step == "convert":
    from stages.targets.coreml_metal.convert import convert
    convert(Path(source), Task.model_validate_json(task), target, Path(out))
else:
    from stages.targets.coreml_metal.quantize import quantize
    calibration = {name: np.array(rows, np.int32) for name, rows in json.loads(calibration).items()}
    for item in precision:
        name, _, value = item.partition("=")
        (Path(out) / name).mkdir()
        quantize(Path(source), TypeAdapter(Precision).validate_json(value), calibration, target, Path(out) / name)
print(*sorted({"sklearn", "torch", "transformers"} & set(sys.modules)))
"""


def in_process(step, source, out, seed, *precision, task=TASK, target=TARGET):
    """Run `WORKER` under another hash seed; return the heavy modules it imported."""
    out.mkdir(parents=True)
    calibration = json.dumps({name: rows.tolist() for name, rows in CALIBRATION.items()})
    command = [sys.executable, "-c", WORKER, step, source, out, task.model_dump_json(), target.model_dump_json()]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, calibration, *precision],
        env={**environment, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()[-1].split()


def lowered(source, precision, out, target=TARGET):
    out.mkdir()
    return quantize.quantize(source, precision, CALIBRATION, target, out)


def tree(directory):
    return {str(item.relative_to(directory)): artifact.sha256(item) for item in directory.rglob("*") if item.is_file()}


def dense(directory):
    """Every weight of a package, expanded, by its name in the checkpoint."""
    toolchain.load()
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = package.read_program(directory / PACKAGE)
    program = load(spec, spec.specificationVersion, str((directory / PACKAGE / WEIGHTS).parent))
    found = {}
    for operation in program.functions["main"].operations:
        if operation.op_type.startswith("constexpr_"):
            found[operation.outputs[0].name] = operation.materialized_val_inference()
        elif operation.op_type == "const" and isinstance(operation.outputs[0].val, np.ndarray):
            found[operation.outputs[0].name] = operation.outputs[0].val
    return {name.partition("_to_fp16")[0]: value for name, value in found.items() if value.ndim >= 2}
