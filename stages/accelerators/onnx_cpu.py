"""Read an ONNX artifact for execution providers: one run with ONNX Runtime's profiler tells shapes and placement."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.accelerators import onnx_providers
from stages.accelerators.graph import Accelerator, Graph, Operator, Tensor
from stages.accelerators.memory import activation_bytes
from stages.core.errors import ArtifactError, first_line
from stages.targets.base import read_signature
from stages.targets.onnx_cpu.graph import MODEL, load, operator
from stages.targets.onnx_cpu.runtime import DTYPES
from stages.tasks.base import BATCH, DECODE, PAST, SEQUENCE

ACCELERATORS: tuple[Accelerator, ...] = onnx_providers.PROVIDERS
PREFILL = 16
"""Tokens of a prompt, at most: shares of multiply-accumulates hardly depend on how many there are, and a run does."""
TOTAL = "total"
"""Axis of a decoder's mask: the tokens of this call and of those before."""
PRODUCTS = ("DynamicQuantizeMatMul", "FusedMatMul", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul")

Sizes = Mapping[str, int]


def graphs(artifact: Path) -> list[Graph]:
    """Read what each call computes at the largest length, node by node, but for what follows from constants alone.

    Raises:
        ArtifactError: the model is missing or damaged, or ONNX Runtime cannot run it.
    """
    signature, model = read_signature(artifact), load(artifact / MODEL)
    longest = max(signature.sequence_lengths)
    calls: dict[str, Sizes] = {}
    if any(call.states for call in signature.calls):
        prompt = min(PREFILL, longest)
        calls[f"prefill_{prompt}"] = {BATCH: 1, SEQUENCE: prompt, PAST: 0, TOTAL: prompt}
        calls[DECODE] = {BATCH: 1, SEQUENCE: 1, PAST: longest - 1, TOTAL: longest}
    else:
        calls[f"length_{longest}"] = {BATCH: 1, SEQUENCE: longest}
    profiles = _profiles(artifact / MODEL, list(calls.values()))
    return [Graph(name, _operators(model, *found)) for name, found in zip(calls, profiles, strict=True)]


def needs(graphs: Sequence[Graph]) -> dict[str, float]:
    """Return the memory of activations; not of a language model, of which no prompt of full length was run."""
    return activation_bytes(graphs) if len(graphs) == 1 else {}


def _profiles(path: Path, calls: list[Sizes]) -> list[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Run each call once, in one session, and return what the profiler says of every node, and the inputs."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        # Nodes as in the file: what a provider is offered before its own partitioning.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling, options.profile_file_prefix = True, f"{scratch}/profile"
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            given = [{item.name: _filled(item, sizes) for item in session.get_inputs()} for sizes in calls]
            for inputs in given:
                session.run(None, inputs)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            first = first_line(error)
            raise ArtifactError(f"onnxruntime cannot run '{path}': {first}", next_step="run `dvc repro`") from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs: dict[str, list[Any]] = {}
    for event in filter(_is_kernel, events):  # in order of time: a node's first run is of the first call
        runs.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event["args"])
    return [
        (
            {name: ran[call] for name, ran in runs.items() if len(ran) == len(calls)},
            {name: Tensor(name, str(one.dtype), one.shape) for name, one in inputs.items()},
        )
        for call, inputs in enumerate(given)
    ]


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")


def _filled(item: Any, sizes: Sizes) -> np.ndarray[Any, np.dtype[Any]]:
    """Make an input: ids and states 0, masks 1."""
    shape = [sizes.get(size, 1) if isinstance(size, str) else size for size in item.shape]
    return (np.ones if "mask" in item.name else np.zeros)(shape, DTYPES[item.type])


def _operators(model: Any, ran: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> tuple[Operator, ...]:
    import onnx

    tensors = dict(inputs)
    for item in model.graph.initializer:
        dtype = onnx.TensorProto.DataType.Name(item.data_type).lower()
        tensors[item.name] = Tensor(item.name, dtype, tuple(item.dims), constant=True)
    found = []
    for node in model.graph.node:
        said = ran.get(node.name, {})
        given = tuple(tensors.get(name, Tensor(name, "", None)) if name else None for name in node.input)
        # Before providers are asked, what follows from constants alone is one: weights cast to fp32.
        folded = node.op_type != "DequantizeLinear" and all(one is None or one.constant for one in given)
        made = [next(iter(one.items())) for one in said.get("output_type_shape", ())]
        for name, (dtype, shape) in zip((one for one in node.output if one), made, strict=False):
            tensors[name] = Tensor(name, dtype, tuple(shape), constant=folded)
        if folded:
            continue
        options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        options["provider"] = said.get("provider")
        outputs = tuple(tensors.get(name, Tensor(name, "", None)) for name in node.output if name)
        one = Operator(operator(node), given, outputs, module=_module(given), options=options)
        found.append(replace(one, macs=_macs(one)))
    return tuple(found)


def _macs(one: Operator) -> int:
    """Count multiply-accumulates of matrix products, and of attention in one node: scores and weighted values."""
    result, shape = one.outputs[0], one.first.shape or (0,)
    kind = one.kind.rpartition("::")[2]
    if kind in PRODUCTS:
        return result.size * shape[-1]
    if kind == "Gemm":
        return result.size * shape[0 if one.options.get("transA") else -1]
    if kind == "MatMulNBits":
        return result.size * int(one.options["K"])
    if kind == "MultiHeadAttention" and one.given[1].rank == 3:
        return 2 * result.size * (one.given[1].shape or (0, 0))[1]
    if kind == "GroupQueryAttention" and len(one.outputs) > 1:
        return 2 * result.size * (one.outputs[1].shape or (0, 0, 0))[2]
    return 0


def _module(given: tuple[Tensor | None, ...]) -> str:
    """Return the module whose weight or bias a node reads: `bert.pooler.dense` of `bert.pooler.dense.weight_turned`."""
    names = [tensor.name for tensor in given if tensor is not None and tensor.constant]
    return next((name.rpartition(".")[0] for name in names if ".weight" in name or ".bias" in name), "")
