"""Export a compressed checkpoint to one fp32 ONNX graph with dynamic batch and sequence."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.core.errors import ConversionError
from stages.schema.task import Task
from stages.schema.variant import OnnxCpu
from stages.targets.base import INPUTS, OUTPUTS, write_signature
from stages.targets.onnx_cpu import FUSED, fuse, graph

EXAMPLE_SHAPE = (2, 4)
"""Batch and length of the traced example: neither may be 1, which torch.export would make a constant."""


def convert(checkpoint: Path, task: Task, target: OnnxCpu, out: Path) -> None:
    """Write `model.onnx` (fp32), `signature.json` and `fused.json` into an existing directory.

    Inputs `input_ids` and `attention_mask` are int32 [batch, sequence], the output `logits` fp32 [batch, labels].

    Raises:
        ConversionError: torch cannot express the checkpoint at this opset, or gave other inputs or outputs.
    """
    import onnx_ir as ir

    from stages.models.checkpoint import load_config
    from stages.models.export import load_export_module

    config = load_config(checkpoint)
    exported = _export(load_export_module(checkpoint), task.max_length, target.opset)
    fused = fuse.fuse(exported, layers=config.num_hidden_layers, max_length=task.max_length)
    model = ir.to_proto(exported)
    del exported
    gc.collect()  # torch's graphs refer to themselves, and hold every weight
    graph.clean(model)
    _check_signature(model, target.opset)
    graph.write(model, out / graph.MODEL)
    artifact.write_json(out / FUSED, fused)
    pad_token_id = config.pad_token_id or 0
    write_signature(out, sequence_lengths=task.sequence_lengths, dynamic=True, pad_token_id=pad_token_id)


def _export(module: Any, max_length: int, opset: int) -> Any:
    import torch
    from torch.export import Dim

    # Two tensors: torch.export takes one tensor given twice for one input, and the graph then looks up the mask.
    # The dtype of the inputs is decided here and nowhere else; the runtime casts to what it finds.
    ids, mask = (torch.ones(EXAMPLE_SHAPE, dtype=torch.int32) for _ in INPUTS)
    axes = {0: Dim("batch"), 1: Dim("sequence", max=max_length)}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (ids, mask),
                dynamo=True,
                dynamic_shapes=(axes, axes),
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
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


def _check_signature(model: Any, opset: int) -> None:
    inputs = {item.name: _axes(item) for item in model.graph.input}
    outputs = {item.name: _axes(item)[:1] for item in model.graph.output}
    expected = {name: ["batch", "sequence"] for name in INPUTS}, {name: ["batch"] for name in OUTPUTS}
    if (inputs, outputs) != expected:
        raise ConversionError(
            f"the exported graph maps {inputs} to {outputs}", expected=f"{expected[0]} to {expected[1]}"
        )
    found = {item.domain: item.version for item in model.opset_import}
    if found not in ({"": opset}, {"": opset, graph.CONTRIB: 1}):
        raise ConversionError(f"the exported graph uses opsets {found}", expected=f"opset {opset} only")


def _axes(item: Any) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in item.type.tensor_type.shape.dim]
