"""Ask Core ML, on a Mac, which processors it could give each operation of a package: its `MLComputePlan`.

No Mac has run this: what the tests hold is what is made of a plan, with coremltools' own types.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stages.targets.coreml_metal import toolchain
from stages.targets.coreml_metal.runtime import coreml_unavailable

DEVICES = {
    "MLCPUComputeDevice": "coreml_cpu",
    "MLGPUComputeDevice": "metal_gpu",
    "MLNeuralEngineComputeDevice": "neural_engine",
}
"""Type of a device in coremltools → the accelerator."""
SOURCE = "Core ML's own plan on this Mac (MLComputePlan)"


def planned(package: Path) -> dict[str, frozenset[str]]:
    """Return result of an operation → accelerators that Core ML could give it; nothing where there is no Core ML."""
    if coreml_unavailable():
        return {}
    ct = toolchain.load()
    compiled = ct.models.utils.compile_model(str(package))
    try:
        return read(ct.models.compute_plan.MLComputePlan.load_from_path(compiled, ct.ComputeUnit.ALL))
    finally:
        shutil.rmtree(compiled, ignore_errors=True)


def read(plan: Any) -> dict[str, frozenset[str]]:
    """Read a plan: result of an operation → accelerators; what is no work, constants above all, is left out.

    Args:
        plan: a `coremltools.models.compute_plan.MLComputePlan`.
    """
    found = dict[str, frozenset[str]]()
    for function in plan.model_structure.program.functions.values():
        for operation in function.block.operations:
            if (usage := plan.get_compute_device_usage_for_mlprogram_operation(operation)) is not None:
                devices = frozenset(DEVICES[type(one).__name__] for one in usage.supported_compute_devices)
                found |= {item.name: devices for item in operation.outputs}
    return found
