#!/usr/bin/env bash
# MatMulNBits of ONNX Runtime 1.32.0 at accuracy_level 4 (activations in int8) answers wrongly, in silence, where its scales come
# out of an operator and not from an initialiser: here a Cast of fp16 scales. At level 0 the same graph is right, and with
# optimisations on the Cast is folded away, so the fault shows where an app disables them (or loads a graph that they cannot fold).
# Seen on Linux x86_64, Python 3.11, 2026-12-01: the answer is off by 2.6 times the spread of the right one.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$place"
cat > answer.py <<'PROGRAM'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH, ROWS, BLOCK = 64, 64, 32
random = np.random.default_rng(0)
levels = random.integers(0, 256, (ROWS, WIDTH // BLOCK, BLOCK // 2), np.uint8)
scale = random.uniform(0.01, 0.1, (ROWS, WIDTH // BLOCK)).astype(np.float16)
given = random.standard_normal((1, WIDTH)).astype(np.float32)
numbers = np.stack([levels & 15, levels >> 4], axis=-1).reshape(ROWS, WIDTH // BLOCK, BLOCK).astype(np.float32) - 8
wanted = given @ (numbers * scale[..., None]).reshape(ROWS, WIDTH).T


def error(level, cast, optimisations):
    settings = {"K": WIDTH, "N": ROWS, "bits": 4, "block_size": BLOCK, "accuracy_level": level}
    nodes = [helper.make_node("MatMulNBits", ["x", "levels", "scale"], ["y"], domain="com.microsoft", **settings)]
    constants = [numpy_helper.from_array(levels, "levels")]
    if cast:
        nodes.insert(0, helper.make_node("Cast", ["half"], ["scale"], to=TensorProto.FLOAT))
        constants.append(numpy_helper.from_array(scale, "half"))
    else:
        constants.append(numpy_helper.from_array(scale.astype(np.float32), "scale"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, ROWS])]
    graph = helper.make_graph(nodes, "product", inputs, outputs, constants)
    versions = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{optimisations}_ALL")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.abs(session.run(None, {"x": given})[0] - wanted).max() / wanted.std()


for level in (0, 4):
    for cast in (False, True):
        for optimisations in ("ENABLE", "DISABLE"):
            right = "right" if error(level, cast, optimisations) < 0.05 else "wrong"
            print(f"level {level}, scale {'cast' if cast else 'stored'}, optimisations {optimisations}: {right}")
PROGRAM
venv/bin/python answer.py > seen
diff - seen <<'EXPECTED'
level 0, scale stored, optimisations ENABLE: right
level 0, scale stored, optimisations DISABLE: right
level 0, scale cast, optimisations ENABLE: right
level 0, scale cast, optimisations DISABLE: right
level 4, scale stored, optimisations ENABLE: right
level 4, scale stored, optimisations DISABLE: right
level 4, scale cast, optimisations ENABLE: right
level 4, scale cast, optimisations DISABLE: wrong
EXPECTED
cat seen
