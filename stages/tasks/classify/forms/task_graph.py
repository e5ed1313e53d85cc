"""A TFLite graph as MediaPipe's TextClassifier calls it."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.targets.tflite_nnapi import flatbuffer
from stages.targets.tflite_nnapi.entries import signature_name
from stages.tasks.base import INPUTS as OURS
from stages.tasks.classify.forms.task_metadata import INPUTS, OUTPUT


def keep_longest(model: Any, length: int) -> None:
    """Leave, in place, the signature of one length with what it needs: MediaPipe takes models of one graph.

    Weights are shared by all signatures, so nothing but scales and shapes of the others goes.
    """
    wanted = signature_name(length).encode()
    (kept,) = [item for item in model.signatureDefs if item.signatureKey == wanted]
    model.subgraphs = [model.subgraphs[kept.subgraphIndex]]
    kept.subgraphIndex = 0
    model.signatureDefs = [kept]
    (graph,) = model.subgraphs
    codes = sorted({op.opcodeIndex for op in graph.operators})
    model.operatorCodes = [model.operatorCodes[index] for index in codes]
    for op in graph.operators:
        op.opcodeIndex = codes.index(op.opcodeIndex)
    _drop_buffers(model, graph)


def take_segments(model: Any) -> None:
    """Give the one graph the inputs and the output that MediaPipe wants, in place.

    Before: input_ids, attention_mask int32 [1, n] → logits, float or int8. After: ids, mask, segment_ids int32 [1, n]
    (the last unread: the checkpoint's answer for segment 0 is in the graph) → score float [1, labels], a softmax.
    """
    from ai_edge_litert import schema_py_generated as schema

    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    by_name = {item.name.decode(): item for item in signature.inputs}
    indices = [by_name[name].tensorIndex for name in OURS]
    segments = schema.TensorT()
    segments.shape, segments.type, segments.buffer = graph.tensors[indices[0]].shape, schema.TensorType.INT32, 0
    graph.inputs = np.array([*indices, flatbuffer.add_tensor(graph, segments)], np.int32)
    (logits,) = [item.tensorIndex for item in signature.outputs]
    scores = _softmax(model, graph, _dequantised(model, graph, logits))
    graph.outputs = np.array([scores], np.int32)
    signature.inputs = [_named(name, index) for name, index in zip(INPUTS, graph.inputs, strict=True)]
    signature.outputs = [_named(OUTPUT, scores)]
    for item in (*signature.inputs, *signature.outputs):
        graph.tensors[item.tensorIndex].name = item.name


def _drop_buffers(model: Any, graph: Any) -> None:
    # Buffer 0 is empty by the schema's convention: what has no data points there.
    referring = (*graph.tensors, *(model.metadata or []))
    places = {old: new for new, old in enumerate(sorted({0, *(item.buffer for item in referring)}))}
    model.buffers = [model.buffers[old] for old in places]
    for item in referring:
        item.buffer = places[item.buffer]


def _float_like(graph: Any, index: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = graph.tensors[index].shape, schema.TensorType.FLOAT32, 0
    tensor.name = f"float_{len(graph.tensors)}".encode()
    return flatbuffer.add_tensor(graph, tensor)


def _dequantised(model: Any, graph: Any, index: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    if graph.tensors[index].type == schema.TensorType.FLOAT32:
        return index
    expanded = _float_like(graph, index)
    _append(model, graph, schema.BuiltinOperator.DEQUANTIZE, 2, index, expanded)
    return expanded


def _softmax(model: Any, graph: Any, index: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    scores = _float_like(graph, index)
    operator = _append(model, graph, schema.BuiltinOperator.SOFTMAX, 1, index, scores)
    operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    operator.builtinOptions = schema.SoftmaxOptionsT()
    operator.builtinOptions.beta = 1.0
    return scores


def _append(model: Any, graph: Any, builtin: int, version: int, source: int, result: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = version
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = np.array([source], np.int32), np.array([result], np.int32)
    graph.operators.append(operator)
    return operator


def _named(name: str, index: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), int(index)
    return entry
