"""The stages of the build, each run as `python -m stages.NAME`.

Whatever imports one, a benchmark or a test too, comes by here first, and no library below phones home. Some would while
they are imported (ONNX Runtime opens a store of events and sends it later): a call to their own switch comes too late.
"""

import os

QUIET_ENVIRONMENT = {
    "DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TOKENIZERS_PARALLELISM": "false",
}

for _name, _value in QUIET_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
