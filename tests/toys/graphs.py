"""ONNX graphs of three operators with a classifier's inputs and output."""

import numpy as np


def averaging():
    """Bytes of a model that answers with the mean of its tokens' rows, of four tokens and three classes."""
    from onnx import numpy_helper

    table = numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "table")
    steps = [
        ("Gather", ["table", "input_ids"], "rows", {}),
        ("ReduceMean", ["rows"], "logits", {"axes": [1], "keepdims": 0}),
    ]
    return _model(steps, [table], [1, "n"], [1, 3], 17)


def adding():
    """Bytes of a model that answers with the sum of the ids that the mask keeps, as the only class."""
    from onnx import TensorProto

    steps = [
        ("Mul", ["input_ids", "attention_mask"], "masked", {}),
        ("Cast", ["masked"], "floats", {"to": TensorProto.FLOAT}),
        ("ReduceSum", ["floats"], "logits", {"keepdims": 1}),
    ]
    return _model(steps, [], ["batch", "sequence"], ["batch", 1], 20)


def summing(rows, classes):
    """Bytes of a model that answers with the sum of its tokens' rows of ones."""
    from onnx import numpy_helper

    stored = [
        numpy_helper.from_array(np.ones((rows, classes), np.float32), "table"),
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
    ]
    steps = [
        ("Gather", ["table", "input_ids"], "rows", {}),
        ("ReduceSum", ["rows", "axes"], "logits", {"keepdims": 0}),
    ]
    return _model(steps, stored, ["batch", "sequence"], ["batch", classes], 20)


def _model(steps, stored, inputs, output, opset):
    from onnx import TensorProto, helper

    nodes = [helper.make_node(kind, read, [made], **settings) for kind, read, made, settings in steps]
    given = [helper.make_tensor_value_info(name, TensorProto.INT32, inputs) for name in ("input_ids", "attention_mask")]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, output)
    graph = helper.make_graph(nodes, "toy", given, [logits], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString()
