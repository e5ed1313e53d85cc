#!/usr/bin/env bash
# A registered model's version carries its aliases: `get_model_version` of MLflow 3.17.2 lists them, and so does the UI.
# `search_model_versions` returns the same versions with no alias at all, so that whoever looks for what "released" points at
# in its answer finds nothing, on any version.
# Seen on Linux x86_64, Python 3.11, 2026-11-30, with a SQLite database.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2
export MLFLOW_DISABLE_TELEMETRY=true
cd "$place"
"$place/venv/bin/python" - > seen 2> /dev/null <<'PY'
from mlflow import MlflowClient

client = MlflowClient("sqlite:///store.db")
run = client.create_run(client.create_experiment("one"))
client.create_registered_model("model")
client.create_model_version("model", source=run.info.artifact_uri, run_id=run.info.run_id)
client.set_registered_model_alias("model", "released", "1")
(found,) = client.search_model_versions("name = 'model'")
print("get_model_version:", client.get_model_version("model", "1").aliases)
print("get_registered_model:", client.get_registered_model("model").aliases)
print("search_model_versions:", found.aliases)
PY
diff - seen <<'EXPECTED'
get_model_version: ['released']
get_registered_model: {'released': 1}
search_model_versions: []
EXPECTED
cat seen
