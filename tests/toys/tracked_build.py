"""A finished build of four variants, and questions to the database that it is published to."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from stages.core import artifact
from stages.core.process import host_fingerprint
from stages.targets.facts import runtimes
from stages.tracking import place, record, store

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIMES = {"coreml-metal": "reference-interpreted", "onnx-cpu": "onnxruntime-cpu"}

# variant → compression, target, precision, verdict
VARIANTS = {
    "coreml-metal-fp16": ("none", "coreml-metal", "fp16", "pass"),
    "onnx-cpu-fp32": ("none", "onnx-cpu", "fp32", "pass"),
    "onnx-cpu-int8": ("pruned", "onnx-cpu", "static_wi8_ai8", "fail"),
    "onnx-cpu-late": ("none", "onnx-cpu", "fp16", "not_measured"),
}
REASONS = {"fail": ["top1_agreement value 0.5 < 0.99 fraction"], "not_measured": ["the host has no such runtime"]}
DOMINATED = "no better than 'onnx-cpu-fp32' on any axis measured here: 2.00 MB against 1.00"
NOTE = "interpreted in numpy: Apple's runtime may round otherwise"
UTTERANCE = "zanzibar umbrella quotation"
SECRET = "hunter2-planted-token"
PARAMS = {"data": {"kind": "clinc150", "seed": 1}, "precisions": {"fp32": {"kind": "float"}}, "gate": {"x": 1}}
TASK = {"task": {"name": "classify"}}
SPLIT_SIZES = {"train": 4, "validation": 2, "calibration": 1, "probe": 1, "test": 3}


def pair(first, second, agreement):
    kinds = {"first_kind": "teacher" if first == "teacher" else "variant", "second_kind": "variant"}
    bounds = {"agreement": agreement, "agreement_high": agreement + 0.01, "agreement_low": agreement - 0.01}
    return {"first": first, "second": second, "n": 3} | kinds | bounds


# Failing and pruned variants are further away, and the platforms' passing ones agree by 0.97.
PAIRS = [
    pair("teacher", "onnx-cpu-fp32", 0.95),
    pair("coreml-metal-fp16", "onnx-cpu-fp32", 0.97),
    pair("coreml-metal-fp16", "onnx-cpu-int8", 0.3),
    pair("coreml-metal-fp16", "onnx-cpu-late", 0.5),
]


def write(path, stage, files, params=None):
    with artifact.writing(path, stage=stage, parents={}) as out:
        for name, content in files.items():
            if isinstance(content, str):
                (out / name).write_text(content, encoding="utf-8")
            else:
                artifact.write_json(out / name, content)
    if params:
        manifest = artifact.manifest(path)
        artifact.write_json(path / artifact.MANIFEST, manifest | {"params": params})


def verdict_of(key):
    compression, target, precision, verdict = VARIANTS[key]
    entry = {
        "compression": compression,
        "dominated": DOMINATED if key == "onnx-cpu-int8" else "",
        "intervals": {},
        "metrics": {"size_bytes": 1000},
        "notes": [NOTE] if target == "coreml-metal" else [],
        "precision": precision,
        "reasons": REASONS.get(verdict, []),
        "runtime": None if verdict == "not_measured" else RUNTIMES[target],
        "target": target,
        "timing": "Core ML runs on macOS only" if target == "coreml-metal" else "",
        "verdict": verdict,
    }
    if verdict != "not_measured":
        entry["metrics"] |= {"accuracy": 0.5, "max_abs_error": 0.01, "n": 3}
        entry["intervals"]["accuracy"] = [0.4, 0.6]
        if target != "coreml-metal":
            entry["metrics"]["latency_p50_ms"] = 1.5
            entry["intervals"]["latency_p50_ms"] = [1.4, 1.6]
    return entry


def write_variant(build, key, content="bytes"):
    _, target, precision, _ = VARIANTS[key]
    params = {"precision": {"kind": precision}, "target": {"name": target}}
    write(build / "artifact" / key, "quantize", {"model.bin": f"{key} {content}"}, params)
    write(build / "parity" / key, "parity", {"metrics.json": {"status": "measured"}})
    host = {"cores": 2, "cpu_isa": "avx2", "cpu_model": "Example CPU", "machine": "x86_64"}
    values = {"latency_p50_ms": 1.5, "size_bytes": 1000}
    write(build / "benchmark" / key, "benchmark", {"metrics.json": {"host": host, "values": values}})


def make(workspace):
    """Lay out a finished build with a passing, an interpreted, a failing and an unmeasured variant."""
    root = workspace / "build"
    rows = {name: [{"label": "a", "text": f"{UTTERANCE} {name}"}] * size for name, size in SPLIT_SIZES.items()}
    files = {f"{name}.jsonl": "".join(f"{json.dumps(row)}\n" for row in split) for name, split in rows.items()}
    examples = {"duplicates": {"contradicting_examples": {UTTERANCE: ["a", "b"]}}}
    baseline = {"accuracy": 0.71, "accuracy_interval": [0.66, 0.75], "method": "words", "n": 400}
    summary = {"baseline": baseline, "counts": SPLIT_SIZES} | examples
    write(root / "data", "prepare", files | {"summary.json": summary}, TASK)
    evaluation = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "n": 3, "parameters": 100}
    for role in ("teacher", "student"):
        write(root / role, role, {"evaluation.json": evaluation})
    for name in ("none", "pruned"):
        params = {"compression": {"kind": name, "heads_fraction": 0.5}}
        write(root / "compressed" / name, "compress", {"profile.json": {}}, params)
        write(root / "reference" / name, "reference", {"summary.json": {"compression": name}})
    for pair in ("none-coreml-metal", "none-onnx-cpu", "pruned-onnx-cpu"):
        write(root / "converted" / pair, "convert", {"model.bin": pair})
    for key in VARIANTS:
        write_variant(root, key)
    artifact.write_json(root / "host.json", host_fingerprint(runtimes()))
    artifact.write_json(root / "verdicts.json", {"variants": {key: verdict_of(key) for key in VARIANTS}})
    write(root / "report", "report", {"index.html": "<html></html>", "agreement.json": PAIRS})
    artifact.write_json(workspace / "params.yaml", PARAMS)  # JSON is YAML
    return root


def collect(build):
    return record.collect(build, build / "verdicts.json", build / "report", build.parent / "params.yaml", PARAMS)


def variant(build, key):
    return next(found for found in collect(build).variants if found.key == key)


PROGRAM = (
    "import sys; from stages.track import main; code = main(sys.argv[1:]); "
    "print('heavy' if 'mlflow' in sys.modules else 'light'); sys.exit(code)"
)
ARGUMENTS = ["--build", "build", "--verdicts", "build/verdicts.json", "--report", "build/report"]
ARGUMENTS += ["--tracked", "build/tracked.json"]


def start(build, **environment):
    """Start the stage as a process, as `dvc repro` does; its last line says if MLflow was imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *ARGUMENTS],
        cwd=build.parent,
        env=inherited | {"PYTHONPATH": str(REPOSITORY), "FAKE_TOKEN": SECRET} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def here(build, database="mlruns/mlflow.db"):
    """Publish in this process: MLflow is imported once for all tests."""
    where = place.choose({"MLFLOW_TRACKING_URI": f"sqlite:///{build.parent / database}"})
    with place.opened(where):
        return store.publish(where, collect(build))


def ask(build, query, database="mlruns/mlflow.db"):
    with sqlite3.connect(build.parent / database) as connection:
        return [row if len(row) > 1 else row[0] for row in connection.execute(query)]


def counts(build, database="mlruns/mlflow.db"):
    live = "WHERE lifecycle_stage = 'active'"
    queries = {
        "aliases": "SELECT count(*) FROM registered_model_aliases",
        "models": f"SELECT count(*) FROM logged_models {live}",
        "runs": f"SELECT count(*) FROM runs {live} AND status = 'FINISHED'",
        "unfinished": f"SELECT count(*) FROM runs {live} AND status != 'FINISHED'",
        "versions": "SELECT count(*) FROM model_versions WHERE current_stage != 'Deleted_Internal'",
    }
    return {name: ask(build, query, database)[0] for name, query in queries.items()}


ONCE = {"aliases": 2, "models": 4, "runs": 5, "unfinished": 0, "versions": 2}


def publish_first(build, empty_database):
    (build.parent / "mlruns").mkdir()
    shutil.copy2(empty_database, build.parent / "mlruns" / "mlflow.db")
    assert here(build) == ["build", *VARIANTS]
    return build
