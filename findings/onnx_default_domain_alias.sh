#!/usr/bin/env bash
# ONNX's specification lets a model call the standard operators "" or "ai.onnx", two names of one domain (docs/IR.md,
# operator sets). ONNX Runtime 1.32.0 takes both, mixed too. The checker and the reference evaluator of onnx 1.23.2 take ""
# alone: to them a node of "ai.onnx" is unknown, and "" is not imported by a model that imports "ai.onnx".
# Who compares operators by their domain, or checks a model before shipping it, meets both spellings.
# Seen on Linux x86_64, Python 3.11, 2026-11-30:
#   node '' import ''                checker ok        runtime 0.8808  reference 0.8808
#   node 'ai.onnx' import 'ai.onnx'  checker refuses   runtime 0.8808  reference refuses
#   node 'ai.onnx' import ''         checker refuses   runtime 0.8808  reference refuses
#   node '' import 'ai.onnx'         checker ok        runtime 0.8808  reference refuses
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
from onnx.reference import ReferenceEvaluator

FEED = {"a": np.array([2.0], np.float32)}


def attempt(act):
    try:
        return act()
    except Exception:  # each tool has an error of its own; that it refuses is what is shown
        return "refuses"


for node, imported in (("", ""), ("ai.onnx", "ai.onnx"), ("ai.onnx", ""), ("", "ai.onnx")):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["a"], ["b"], domain=node)], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(imported, 17)], ir_version=8)
    checker = attempt(lambda: onnx.checker.check_model(model, full_check=True) or "ok")
    runtime = attempt(lambda: f"{onnxruntime.InferenceSession(model.SerializeToString()).run(None, FEED)[0][0]:.4f}")
    reference = attempt(lambda: f"{ReferenceEvaluator(model).run(None, FEED)[0][0]:.4f}")
    print(f"node {node!r} import {imported!r}: checker {checker}, runtime {runtime}, reference {reference}")
PY
diff - "$place/seen" <<'EXPECTED'
node '' import '': checker ok, runtime 0.8808, reference 0.8808
node 'ai.onnx' import 'ai.onnx': checker refuses, runtime 0.8808, reference refuses
node 'ai.onnx' import '': checker refuses, runtime 0.8808, reference refuses
node '' import 'ai.onnx': checker ok, runtime 0.8808, reference refuses
EXPECTED
cat "$place/seen"
