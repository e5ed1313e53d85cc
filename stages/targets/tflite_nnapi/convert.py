"""Convert a compressed checkpoint to one fp32 TFLite file with a signature per sequence length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import ConversionError, Unsupported
from stages.schema.task import Task
from stages.schema.variant import TfliteNnapi
from stages.targets.base import INPUTS, OUTPUTS, write_signature
from stages.targets.tflite_nnapi import flatbuffer, sharing

MASK_OPERATORS = {"GATHER_ND", "LOGICAL_AND", "SELECT", "SELECT_V2"}
"""What Hugging Face's own mask turns into; NNAPI has no kernels for them."""

ACTIVATIONS_LEFT_OUT = ("mish", "sqrtsoftplus")
"""Both hold a softplus, which becomes SELECT. The others that import takes were lowered, and answer as in torch."""


def convert(checkpoint: Path, task: Task, target: TfliteNnapi, out: Path) -> None:  # noqa: ARG001 (quantize's knobs)
    """Write `model.tflite` (fp32) and `signature.json` into an existing directory.

    Every signature `length_N` maps `input_ids` and `attention_mask`, int32 [1, N], to `logits`, fp32 [1, labels];
    all share one copy of the weights.

    Raises:
        Unsupported: the checkpoint's activation is none that the format expresses for NNAPI.
        ConversionError: litert-torch cannot lower the checkpoint, or gave another graph than was asked for.
    """
    from stages.models.checkpoint import load_config
    from stages.models.export import load_export_module

    _require_activation(checkpoint)
    _lower(load_export_module(checkpoint), task.sequence_lengths, out / flatbuffer.MODEL)
    model = flatbuffer.read(out / flatbuffer.MODEL)
    flatbuffer.drop_metadata(model)
    flatbuffer.shorten_names(model)
    sharing.unfold(model)
    flatbuffer.write(model, out / flatbuffer.MODEL)
    _check(out / flatbuffer.MODEL, task.sequence_lengths)
    pad_token_id = load_config(checkpoint).pad_token_id or 0
    write_signature(out, sequence_lengths=task.sequence_lengths, dynamic=False, pad_token_id=pad_token_id)


def _require_activation(checkpoint: Path) -> None:
    from stages.models.checkpoint import load_config

    config = load_config(checkpoint)
    name = getattr(config, "hidden_act", None) or getattr(config, "activation", None)  # DistilBERT's word for it
    if name in ACTIVATIONS_LEFT_OUT:
        raise Unsupported(
            f"tflite-nnapi cannot express the activation '{name}': it becomes SELECT, for which NNAPI has no kernel",
            next_step="distil into a student with another activation (student.activation=gelu), or build for onnx-cpu",
        )


def _lower(module: Any, lengths: Sequence[int], path: Path) -> None:
    """Write what litert-torch makes of a module; through a file, so that no weight is in memory three times."""
    import litert_torch
    import torch

    class NamedOutput(torch.nn.Module):
        """Gives the output its name: a bare tensor would become `output_0`."""

        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module = module

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
            return dict(zip(OUTPUTS, (self.module(input_ids, attention_mask),), strict=True))

    named = NamedOutput(module).eval()
    converter: Any = litert_torch
    for length in lengths:
        example = {name: torch.ones((1, length), dtype=torch.int32) for name in INPUTS}
        converter = converter.signature(flatbuffer.signature_name(length), named, (), example)
    try:
        lowered = converter.convert()
        for weight in named.parameters():  # MLIR has its own by now, and torch's graphs outlive the conversion
            weight.data = torch.empty(0)
        lowered.export(str(path))
    except Exception as error:  # litert-torch, torch.export and MLIR bindings share no other base
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConversionError(
            f"litert-torch cannot convert: {first}", next_step="read the log beside the output"
        ) from (error)


def _check(path: Path, lengths: Sequence[int]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    expected = {
        flatbuffer.signature_name(length): {"inputs": sorted(INPUTS), "outputs": list(OUTPUTS)} for length in lengths
    }
    found = Interpreter(model_path=str(path), num_threads=1).get_signature_list()
    if {name: {role: sorted(names) for role, names in roles.items()} for name, roles in found.items()} != expected:
        raise ConversionError(f"the converted file has signatures {found}", expected=f"{expected}")
    alien = sorted(MASK_OPERATORS & set(flatbuffer.operators(path)))
    if alien:
        raise ConversionError(f"the graph contains {', '.join(alien)}", expected="a mask of SUB, MUL and ADD alone")
