"""Read a TFLite artifact for accelerators, and name those that phones have for it.

NNAPI is deprecated since Android 15 (developer.android.com/ndk/guides/neuralnetworks/migration-guide, read 2026-12-01):
phones that have it keep it, new ones are reached through LiteRT's CompiledModel, whose GPU and NPU profiles take over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from stages.accelerators import litert_gpu, litert_npu, litert_xnnpack, nnapi, tflite_micro
from stages.accelerators.graph import Accelerator, Graph, Operator, Tensor
from stages.accelerators.memory import activation_bytes
from stages.core.errors import ArtifactError
from stages.targets.tflite_nnapi import flatbuffer, storage

ACCELERATORS: tuple[Accelerator, ...] = (
    *nnapi.LEVELS,
    litert_xnnpack.XNNPACK,
    *litert_gpu.GPUS,
    litert_npu.QUALCOMM,
    tflite_micro.MICRO,
)


def graphs(artifact: Path) -> list[Graph]:
    """Read what each signature computes.

    Raises:
        ArtifactError: the file is missing, is not TFLite or contradicts itself.
    """
    model = flatbuffer.read(artifact / flatbuffer.MODEL)
    try:
        return [
            Graph(signature.signatureKey.decode(), tuple(_operators(model, model.subgraphs[signature.subgraphIndex])))
            for signature in model.signatureDefs or ()
        ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"cannot follow the graph of '{artifact}': {error!r}", next_step="run `dvc repro`") from (
            error
        )


def needs(graphs: Sequence[Graph]) -> dict[str, float]:
    """Return the memory of activations, of the longest signature."""
    return activation_bytes(graphs)


def _operators(model: Any, graph: Any) -> Iterable[Operator]:
    tensors = [_tensor(model, tensor) for tensor in graph.tensors]
    for kind, operator in flatbuffer.operators_of(model, graph):
        inputs = tuple(tensors[index] if index >= 0 else None for index in operator.inputs)
        outputs = tuple(tensors[index] for index in operator.outputs)
        options = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
        yield Operator(
            kind=kind,
            inputs=inputs,
            outputs=outputs,
            macs=_macs(kind, inputs, outputs, options),
            module=_module(outputs[0].name),
            version=int(model.operatorCodes[operator.opcodeIndex].version or 1),
            options=options,
        )


def _tensor(model: Any, tensor: Any) -> Tensor:
    data, grid = model.buffers[tensor.buffer].data, tensor.quantization
    scales: Any = () if grid is None or grid.scale is None else grid.scale
    return Tensor(
        name=tensor.name.decode(),
        dtype=flatbuffer.tensor_types()[tensor.type],
        shape=tuple(int(size) for size in storage.shape_of(tensor)),
        constant=data is not None and len(data) > 0,
        scales=len(scales),
        scale=float(scales[0]) if len(scales) else 0.0,
        zero=int(grid.zeroPoint[0]) if len(scales) and grid.zeroPoint is not None else 0,
        blocks=grid is not None and grid.details is not None,
    )


def _macs(kind: str, inputs: tuple[Tensor | None, ...], outputs: tuple[Tensor, ...], options: dict[str, Any]) -> int:
    """Count multiply-accumulates of a matrix product or convolution; nothing else multiplies and adds up."""
    shapes: list[tuple[int, ...]] = [
        () if tensor is None or tensor.shape is None else tensor.shape for tensor in inputs
    ]
    if kind == "FULLY_CONNECTED":
        return outputs[0].size * shapes[1][-1]
    if kind == "BATCH_MATMUL":
        return outputs[0].size * shapes[0][-2 if options.get("adjX") else -1]
    if kind == "CONV_2D":
        return outputs[0].size * prod(shapes[1][1:])
    return outputs[0].size * prod(shapes[1][1:3]) if kind == "DEPTHWISE_CONV_2D" else 0


def _module(name: str) -> str:
    """Return the path in the checkpoint that `flatbuffer.shorten_names` left: `bert/encoder/1/output/dense#3`."""
    path, _, number = name.rpartition("#")
    return path if number.isdigit() and not path.startswith(flatbuffer.ANONYMOUS) else ""
