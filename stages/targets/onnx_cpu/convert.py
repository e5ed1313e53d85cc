"""Export a compressed checkpoint to one fp32 ONNX graph with dynamic batch and sequence."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.core.errors import ConversionError
from stages.models.families.decoder import Decoder
from stages.schema.task import Task
from stages.schema.variant import OnnxCpu
from stages.targets.base import example, only, write_signature
from stages.targets.onnx_cpu import FUSED, decoder, fuse, graph
from stages.tasks import registry as tasks
from stages.tasks.base import BATCH, SEQUENCE, Call

EXAMPLE = {BATCH: 2, SEQUENCE: 4}
"""Sizes of the traced example: none may be 1, which torch.export would make a constant."""
Axes = Sequence[str | int]


def convert(checkpoint: Path, task: Task, target: OnnxCpu, out: Path) -> None:
    """Write `model.onnx` (fp32), `signature.json` and `fused.json` into an existing directory.

    The graph takes and gives what the task's call says.

    Raises:
        ConversionError: torch cannot express the checkpoint at this opset, or gave other inputs or outputs.
    """
    interface = tasks.interface(task.name)
    loaded = [interface.load(checkpoint, task)]
    if isinstance(loaded[0], Decoder):
        decoder.convert(loaded.pop(), interface.calls(task), task, target, out)  # which lets go of it when it can
    else:
        _trace(loaded.pop(), checkpoint, only(interface.calls(task)), task, target, out)


def _trace(module: Any, checkpoint: Path, call: Call, task: Task, target: OnnxCpu, out: Path) -> None:
    import onnx_ir as ir

    from stages.models.checkpoint import load_config

    config = load_config(checkpoint)
    exported = _export(module, call, task.max_length, target.opset)
    fused = fuse.fuse(exported, layers=config.num_hidden_layers, max_length=task.max_length)
    model = ir.to_proto(exported)
    del exported
    gc.collect()  # torch's graphs refer to themselves, and hold every weight
    graph.clean(model)
    _check_signature(model, call, target.opset)
    graph.write(model, out / graph.MODEL)
    artifact.write_json(out / FUSED, fused)
    write_signature(out, task, [call], dynamic=True, pad_token_id=config.pad_token_id or 0)


def _export(module: Any, call: Call, max_length: int, opset: int) -> Any:
    import torch
    from torch.export import Dim

    sizes = {BATCH: Dim(BATCH), SEQUENCE: Dim(SEQUENCE, max=max_length)}
    axes = tuple({at: sizes[axis] for at, axis in enumerate(one.axes) if axis in sizes} for one in call.inputs)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(example(call, EXAMPLE).values()),
                dynamo=True,
                dynamic_shapes=axes,
                input_names=call.names[0],
                output_names=call.names[1],
                opset_version=opset,
                external_data=False,
                optimize=False,
                verbose=False,
            )
            assert program is not None
            _name_weights(program.model.graph)
            fuse.turn_weights(program.model.graph)  # first: what torch folds loses its name
            program.optimize()
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConversionError(f"torch.onnx.export failed at opset {opset}: {first}") from error
    return program.model


def _name_weights(chart: Any) -> None:
    """Call weights what the checkpoint calls them, and not by the module that wraps it here."""
    for value in list(chart.initializers.values()):
        value.name = value.name.removeprefix("model.")


def _check_signature(model: Any, call: Call, opset: int) -> None:
    inputs, outputs = ({item.name: _axes(item) for item in place} for place in (model.graph.input, model.graph.output))
    expected = {one.name: one.axes for one in call.inputs}, {one.name: one.axes for one in call.outputs}
    if not (_alike(inputs, expected[0]) and _alike(outputs, expected[1])):
        raise ConversionError(
            f"the exported graph maps {inputs} to {outputs}", expected=f"{expected[0]} to {expected[1]}"
        )
    opsets = {item.domain: item.version for item in model.opset_import}
    if opsets not in ({"": opset}, {"": opset, graph.CONTRIB: 1}):
        raise ConversionError(f"the exported graph uses opsets {opsets}", expected=f"opset {opset} only")


def _alike(found: Mapping[str, Axes], expected: Mapping[str, Axes]) -> bool:
    """Whether tensors have the axes asked for; a name other than of an example's size may stand for any number."""
    return found.keys() == expected.keys() and all(
        len(found[name]) == len(axes)
        and all(
            isinstance(size, int) if isinstance(axis, str) and axis not in EXAMPLE else size == axis
            for size, axis in zip(found[name], axes, strict=True)
        )
        for name, axes in expected.items()
    )


def _axes(item: Any) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in item.type.tensor_type.shape.dim]
