"""A stage of a tiny pipeline: `python tiny.py NAME OUT` writes deterministic files and logs that it ran.

TINY_LOG: a file that gets `begin NAME STUDENT` and `end NAME STUDENT`. TINY_SLEEP: seconds each stage takes. A file
`TINY_LOG.fail` holds the name of a stage that fails.
"""

import json
import os
import sys
import time
from pathlib import Path

import yaml

name, out = sys.argv[1], Path(sys.argv[2])
params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
student = params["student"]["kind"]


def log(word):
    what = f"{name}@{'+'.join(params['variants'])}" if name in ("gate", "explain") else name
    with Path(os.environ["TINY_LOG"]).open("a", encoding="utf-8") as stream:
        stream.write(f"{word} {what} {student}\n")


log("begin")
time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
fail = Path(os.environ["TINY_LOG"] + ".fail")
if fail.is_file() and fail.read_text(encoding="utf-8") == name:
    print(f"error: '{name}' was told to fail", file=sys.stderr)
    sys.exit(1)
stage, _, key = name.partition("@")
small = "wi8" in key
size, latency, accuracy = (100, 2.0, 0.90) if small else (400, 1.0, 0.92)
accuracy -= 0.05 if student == "none" else 0
if stage == "gate":
    variants = {
        variant: {
            **{field: entry[field] for field in ("compression", "precision", "target")},
            "metrics": json.loads((Path("build/benchmark") / variant / "metrics.json").read_text(encoding="utf-8"))[
                "values"
            ],
            "intervals": {},
            "reasons": [],
            "verdict": "pass",
        }
        for variant, entry in params["variants"].items()
    }
    out.write_text(json.dumps({"variants": variants}), encoding="utf-8")
    Path(sys.argv[3]).write_text(json.dumps({"accuracy": accuracy}), encoding="utf-8")
elif stage == "explain":
    out.write_text(json.dumps({"variants": {}, "verdicts": ""}), encoding="utf-8")
else:
    out.mkdir(parents=True)
    if stage == "distill":
        scores = {"validation_kept_of_teacher": accuracy}
        (out / "evaluation.json").write_text(json.dumps(scores), encoding="utf-8")
    elif stage == "quantize":
        (out / "model.bin").write_bytes(f"{student} {key}".encode().ljust(size))
    elif stage == "parity":
        values = {"top1_agreement": 0.99, "accuracy": accuracy}
        (out / "metrics.json").write_text(json.dumps({"test": {"values": values}}), encoding="utf-8")
    elif stage == "benchmark":
        values = {"latency_p50_ms": latency, "size_bytes": size, "accuracy": accuracy, "top1_agreement": 0.99}
        values["validation_kept_of_teacher"] = accuracy
        (out / "metrics.json").write_text(json.dumps({"values": values}), encoding="utf-8")
    else:
        (out / "data.txt").write_text(f"{name} {student}\n", encoding="utf-8")
log("end")
