"""The stages of the build, each run as `python -m stages.NAME`.

Whatever imports one, a benchmark or a test too, comes by here first, and no library below phones home. Some would while
they are imported (ONNX Runtime opens a store of events and sends it later): a call to their own switch comes too late.
Here too a stage says that it runs in another Python than its environment's: DVC starts the `python` of the PATH.
"""

import os
import sys

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

# No syntax or letter in this file may be newer than the Pythons it turns away, and no import one that they lack.
_wrong = "is older than 3.11" if sys.version_info < (3, 11) else ""
if not _wrong and "-m" in sys.orig_argv:
    from importlib.util import find_spec

    # Clients (`stages.asking.python.*`) have environments of their own, without these.
    if sys.orig_argv[sys.orig_argv.index("-m") + 1].count(".") == 1:
        _lacking = [_name for _name in ("numpy", "pydantic", "yaml") if find_spec(_name) is None]
        _wrong = "lacks " + ", ".join(_lacking) if _lacking else ""
if _wrong:
    sys.stderr.write(
        "error: '" + str(sys.executable) + "' (Python " + sys.version.split()[0] + ") " + _wrong
        + "; expected the environment that `make` installs from constraints.txt; "
        + "next: run `source .venv/bin/activate`, then the same command again (or `make repro`)\n"
    )  # fmt: skip
    sys.exit(1)
