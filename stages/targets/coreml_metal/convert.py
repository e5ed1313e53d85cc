"""Trace a compressed checkpoint into one fp32 Core ML program for all sequence lengths."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from stages.core.errors import ConversionError, Unsupported
from stages.models.families.decoder import Decoder
from stages.schema.task import Task
from stages.schema.variant import CoremlMetal
from stages.targets.base import example, one_by_one, only, write_signature
from stages.targets.coreml_metal import canonical, channels_first, decoder, toolchain
from stages.targets.coreml_metal.package import PACKAGE, read_program
from stages.tasks import registry as tasks
from stages.tasks.base import SEQUENCE, Call


def convert(checkpoint: Path, task: Task, target: CoremlMetal, out: Path) -> None:
    """Write `model.mlpackage` (fp32) and `signature.json` into an existing directory.

    The program takes and gives what the task's call says, for one text of n tokens, n in `task.sequence_lengths`, or as
    `decoder` says. It is
    meant for `quantize`, which also writes the fp32 artifact: it lacks the guard that Core ML wants on signed indices,
    because a 16-bit program needs none and could not drop it again.

    Raises:
        Unsupported: several lengths on a deployment target that enumerates the shapes of one input only.
        ConversionError: coremltools cannot express the checkpoint, or gave other inputs or outputs.
    """
    lengths = task.sequence_lengths
    if len(lengths) > 1 and target.minimum_deployment_target != "iOS18":
        raise Unsupported(
            f"coreml-metal cannot serve lengths {lengths} at {target.minimum_deployment_target}",
            expected="one of task.sequence_lengths, or minimum_deployment_target iOS18",
        )
    from stages.models.checkpoint import load_config

    interface = tasks.interface(task.name)
    loaded = interface.load(checkpoint, task)
    if isinstance(loaded, Decoder):
        decoder.convert(loaded, interface.calls(task), task, target, out)
        return
    call = one_by_one(only(interface.calls(task)))
    ct = toolchain.load_with_torch()
    pipeline = ct.PassPipeline()
    pipeline.remove_passes({"common::guard_negative_gather_indices"})
    if target.layout == "channels_first":
        channels_first.add_to(pipeline)
    traced = _trace(loaded, call, lengths[-1])
    model = toolchain.build(traced, call, lengths, target.minimum_deployment_target, "FLOAT32", pipeline)
    canonical.save(model, out / PACKAGE)
    check_interface(out / PACKAGE, call, lengths)
    write_signature(out, task, [call], dynamic=False, pad_token_id=load_config(checkpoint).pad_token_id or 0)


def _trace(module: Any, call: Call, length: int) -> Any:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        # jit.trace is deprecated; torch.export, which replaces it, gives larger programs in coremltools 9.
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, tuple(example(call, {SEQUENCE: length}).values()), check_trace=False)


def check_interface(package: Path, call: Call, lengths: list[int]) -> None:
    """Refuse a package that is called in another way than `signature.json` says.

    Args:
        package: the `.mlpackage` directory.
        call: what it must take and give.
        lengths: token counts its inputs must enumerate.

    Raises:
        ConversionError: names what it has and what was asked for.
    """
    description = read_program(package).description
    found = {item.name: _interface(item) for item in description.input}
    outputs = {item.name: item.type.multiArrayType for item in description.output}
    dtypes = {name: kind.ArrayDataType.Name(kind.dataType) for name, kind in outputs.items()}
    expected = (
        {one.name: (one.dtype.upper(), lengths if SEQUENCE in one.axes else [one.axes[-1]]) for one in call.inputs},
        {one.name: one.dtype.upper() for one in call.outputs},
    )
    if (found, dtypes) != expected:
        raise ConversionError(f"the program maps {found} to {dtypes}", expected=f"{expected[0]} to {expected[1]}")


def _interface(item: Any) -> tuple[str, list[int]]:
    kind = item.type.multiArrayType
    shapes = [shape.shape for shape in kind.enumeratedShapes.shapes] or [kind.shape]
    return kind.ArrayDataType.Name(kind.dataType), sorted(shape[-1] for shape in shapes)
