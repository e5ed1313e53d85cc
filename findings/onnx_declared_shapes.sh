#!/usr/bin/env bash
# A model may declare an output shape that it never produces. onnx 1.23.2's `check_model` says nothing unless it is asked
# for a full check. ONNX Runtime 1.32.0 neither refuses the model nor keeps what it declares: it loads it with a warning in
# its log, `get_outputs()` answers [None, None] where the file says [7, 1], and the run returns (2, 3). So the shapes a
# client is told are not those in the file, and a file with wrong ones is not told from one with dynamic ones.
# Seen on Linux x86_64, Python 3.11, 2026-11-30:
#   check_model: ok; check_model(full_check=True): InferenceError; file [7, 1], session [None, None], returned (2, 3)
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$place/venv/bin/python" - > "$place/seen" 2> /dev/null <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

given = helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 3])
declared = helper.make_tensor_value_info("b", TensorProto.FLOAT, [7, 1])
graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", [given], [declared])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
for full in (False, True):
    try:
        onnx.checker.check_model(model, full_check=full)
        said = "ok"
    except onnx.shape_inference.InferenceError as error:
        said = type(error).__name__
    print(f"check_model(full_check={full}): {said}")
session = onnxruntime.InferenceSession(model.SerializeToString())
(answer,) = session.run(None, {"a": np.ones((2, 3), np.float32)})
print(f"file [7, 1], session {session.get_outputs()[0].shape}, returned {answer.shape}")
PY
diff - "$place/seen" <<'EXPECTED'
check_model(full_check=False): ok
check_model(full_check=True): InferenceError
file [7, 1], session [None, None], returned (2, 3)
EXPECTED
cat "$place/seen"
