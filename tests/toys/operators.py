"""Small graphs of each target, as an artifact's reader gives them, and what accelerators take of them."""

from stages.accelerators.covering import told
from stages.accelerators.graph import Graph, Operator, Tensor


def tensor(name, dtype="FLOAT32", shape=(1, 8), **more):
    return Tensor(name, dtype, shape, **more)


def weight(name="w", dtype="FLOAT32", shape=(8, 8), **more):
    return Tensor(name, dtype, shape, constant=True, **more)


def op(kind, *inputs, out="y", dtype="FLOAT32", shape=(1, 8), **more):
    return Operator(kind, inputs, (Tensor(out, dtype, shape),), **more)


def feed_forward(product, activation, dtype):
    """Two products with an activation between them."""
    x, y, z = (tensor(name, dtype) for name in "xyz")
    return Graph(
        "length_8",
        (
            op(product, x, weight("v", dtype), out="y", dtype=dtype, macs=64, module="layer/0/up"),
            op(activation, y, out="z", dtype=dtype, module="layer/0/act"),
            op(product, z, weight("w", dtype), out="out", dtype=dtype, macs=64, module="layer/0/down"),
        ),
    )


GRAPHS = {
    "tflite-nnapi": feed_forward("FULLY_CONNECTED", "GELU", "FLOAT32"),
    "onnx-cpu": feed_forward("MatMul", "com.microsoft::FastGelu", "float"),
    "coreml-metal": feed_forward("linear", "gelu", "fp16"),
}


def coverage_of(target):
    """What the stage writes of the target's small graph."""
    return told(target, [GRAPHS[target]])
