#!/usr/bin/env bash
# `mlflow.set_tracking_uri` of MLflow 3.17.2 reads like a setting of this process's client. It also writes the environment
# variable MLFLOW_TRACKING_URI, so that every program started afterwards tracks there, whichever place its own directory
# or arguments would have led to; `set_tracking_uri(None)` takes the variable away again, one that was there before included.
# Seen on Linux x86_64, Python 3.11, 2026-11-30.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check mlflow-skinny==3.17.2
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_TRACKING_URI=sqlite:///before.db
cd "$place"
"$place/venv/bin/python" - > seen 2> /dev/null <<'PY'
import os
import subprocess
import sys

import mlflow


def child():
    code = "import mlflow; print(mlflow.get_tracking_uri())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()


print("a child before the call:", child())
mlflow.set_tracking_uri("sqlite:///mine.db")
print("a child after it:", child())
mlflow.set_tracking_uri(None)
print("the variable after None:", os.environ.get("MLFLOW_TRACKING_URI"))
PY
diff - seen <<'EXPECTED'
a child before the call: sqlite:///before.db
a child after it: sqlite:///mine.db
the variable after None: None
EXPECTED
cat seen
