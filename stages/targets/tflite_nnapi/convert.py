"""Convert a compressed checkpoint to one fp32 TFLite file with a signature per sequence length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.core.errors import ConversionError, Unsupported
from stages.models.families import family_of
from stages.models.families.base import setting
from stages.models.families.decoder import Decoder
from stages.schema.task import Task
from stages.schema.variant import TfliteNnapi
from stages.targets.base import example, one_by_one, only, write_signature
from stages.targets.tflite_nnapi import decoder, flatbuffer, ranks, sharing
from stages.targets.tflite_nnapi.entries import signature_name
from stages.tasks import registry as tasks
from stages.tasks.base import SEQUENCE, Call

MASK_OPERATORS = {"GATHER_ND", "LOGICAL_AND", "SELECT", "SELECT_V2"}
"""What Hugging Face's own mask turns into; NNAPI has no kernels for them."""

ACTIVATIONS_LEFT_OUT = ("mish", "sqrtsoftplus")
"""Both hold a softplus, which becomes SELECT. The others that import takes were lowered, and answer as in torch."""


def convert(checkpoint: Path, task: Task, target: TfliteNnapi, out: Path) -> None:
    """Write `model.tflite` (fp32) and `signature.json` into an existing directory.

    Every signature `length_N` takes and gives what the task's call says, for one text of N tokens; all share one copy
    of the weights. Of decoders see `decoder`.

    Raises:
        Unsupported: the checkpoint's activation is none that the format expresses for NNAPI.
        ConversionError: litert-torch cannot lower the checkpoint, or gave another graph than was asked for.
    """
    _require_activation(checkpoint)
    interface = tasks.interface(task.name)
    model = interface.load(checkpoint, task)
    if isinstance(model, Decoder):
        decoder.convert(model, interface.calls(task), task, out, arithmetic=target.cache_update == "arithmetic")
    else:
        from stages.models.gelu import factor

        without = {"GELU"} if target.tanh_gelu == "factored" and factor(model) else set[str]()
        _trace(model, checkpoint, one_by_one(only(interface.calls(task))), task, out)
        _check(out / flatbuffer.MODEL, only(interface.calls(task)), task.sequence_lengths, without)


def _trace(module: Any, checkpoint: Path, call: Call, task: Task, out: Path) -> None:
    from stages.models.checkpoint import load_config

    _lower(module, call, task.sequence_lengths, out / flatbuffer.MODEL)
    model = flatbuffer.read(out / flatbuffer.MODEL)
    flatbuffer.drop_metadata(model)
    flatbuffer.shorten_names(model)
    sharing.unfold(model)
    ranks.fold(model)
    flatbuffer.write(model, out / flatbuffer.MODEL)
    write_signature(out, task, [call], dynamic=False, pad_token_id=load_config(checkpoint).pad_token_id or 0)


def _require_activation(checkpoint: Path) -> None:
    config = artifact.read_json(checkpoint / "config.json")
    name = setting(config, family_of(config).activation)
    if name in ACTIVATIONS_LEFT_OUT:
        raise Unsupported(
            f"tflite-nnapi cannot express the activation '{name}': it becomes SELECT, for which NNAPI has no kernel",
            next_step="distil into a student with another activation (student.activation=gelu), or build for onnx-cpu",
        )


def _lower(module: Any, call: Call, lengths: Sequence[int], path: Path) -> None:
    """Write what litert-torch makes of a module; through a file, so that no weight is in memory three times."""
    import litert_torch
    import torch

    class NamedOutputs(torch.nn.Module):
        """Gives outputs their names: a bare tensor would become `output_0`."""

        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module = module

        def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            outputs = self.module(*(inputs[name] for name in call.names[0]))
            return dict(zip(call.names[1], outputs if isinstance(outputs, tuple) else (outputs,), strict=True))

    named = NamedOutputs(module).eval()
    converter: Any = litert_torch
    for length in lengths:
        converter = converter.signature(signature_name(length, call.name), named, (), example(call, {SEQUENCE: length}))
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


def _check(path: Path, call: Call, lengths: Sequence[int], without: Collection[str]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    names = {role: sorted(names) for role, names in zip(("inputs", "outputs"), call.names, strict=True)}
    expected = {signature_name(length, call.name): names for length in lengths}
    found = Interpreter(model_path=str(path), num_threads=1).get_signature_list()
    if {name: {role: sorted(names) for role, names in roles.items()} for name, roles in found.items()} != expected:
        raise ConversionError(f"the converted file has signatures {found}", expected=f"{expected}")
    given = set(flatbuffer.operators(path))
    if alien := sorted(MASK_OPERATORS & given):
        raise ConversionError(f"the graph contains {', '.join(alien)}", expected="a mask of SUB, MUL and ADD alone")
    if fused := sorted(set(without) & given):
        raise ConversionError(f"the graph contains {', '.join(fused)}", expected="what was written out in its place")
