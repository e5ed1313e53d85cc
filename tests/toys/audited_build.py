"""A finished build in a git repository of its own: real manifests, statements, lock and bundles, toy bytes."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from pydantic import ConfigDict

from stages import release
from stages.core import artifact, attest, params
from stages.lineage import lock
from tests.toys import bundle as toy

KEY = "onnx-cpu-fp32"
SPLITS = ("train", "validation", "calibration", "probe", "test")
SCORES = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "n": 2, "parameters": 9}


class Loose(params.Section):
    """Settings of a toy stage."""

    model_config = ConfigDict(extra="allow")


SETTINGS = {
    "data": Loose(data={"kind": "jsonl", "licence": "CC-BY-3.0"}, task=toy.TASK),
    "teacher": Loose(teacher={"kind": "train", "licence": "Apache-2.0"}),
}


def enter(workspace, signature=None):
    """Make a directory, go there, and commit what a toy build needs."""
    workspace.mkdir()
    os.chdir(workspace)
    Path("copying.py").write_text(COPY.replace("SIGNATURE", repr(signature or toy.signature())), encoding="utf-8")
    Path("raw.jsonl").write_text('{"text": "t"}\n', encoding="utf-8")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "-m", "toy"]):
        subprocess.run(["git", *command], check=True)


# A stage that can be made again: it writes what its parent holds, an ONNX model (6 is its field for remarks).
COPY = """
import argparse, pathlib
from stages.core import artifact
from stages.core.params import Section
class Made(Section):
    precision: dict
parser = argparse.ArgumentParser()
parser.add_argument("--role")
parser.add_argument("--parent", type=pathlib.Path)
parser.add_argument("--out", type=pathlib.Path)
arguments = parser.parse_args()
made = Made(precision={"kind": "float", "bits": 32})
with artifact.writing(arguments.out, stage="copy", parents={arguments.role: arguments.parent}, params=made) as out:
    (out / "model.onnx").write_bytes(next(arguments.parent.glob("model.*")).read_bytes() + b"\x32\x07lowered")
    (out / "signature.json").write_bytes(SIGNATURE)
"""


def write(out, files, parents, settings=None):
    """Run a toy stage: its output, and its statement."""
    settings = settings or SETTINGS.get(out.name)
    with artifact.writing(out, stage=out.parts[1], parents=parents, params=settings) as temporary:
        for name, content in files.items():
            if isinstance(content, dict):
                artifact.write_arrays(temporary / name, content)
            else:
                (temporary / name).write_bytes(content)
    state(out, ["python", "-m", "stages.toy", "--out", str(out)])


def copy(out, role, parent):
    """Run a toy stage that can be made again."""
    command = ["python", "-m", "copying", "--role", role, "--parent", str(parent), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(release.__file__).parents[1])}
    subprocess.run(command, check=True, env=environment)
    state(out, command)


def state(out, command):
    path = Path("build/statements") / out.relative_to("build").with_suffix(".json")
    attest.write(path, [out], [*command, "--statement", str(path)], datetime.now(UTC))


def write_build(after=None):
    """Write a build into the working directory, from data to verdicts; `after` puts a compression before `none`."""
    build = Path("build")
    data, teacher, student = build / "data", build / "teacher", build / "student"
    compressed, reference = build / "compressed/none", build / "reference/none"
    converted, made = build / "converted/none-onnx-cpu", build / "artifact" / KEY
    probe = toy.probe()
    rows = {f"{split}.jsonl": f"{split}\n".encode() for split in SPLITS}
    summary = json.dumps({"counts": dict.fromkeys(SPLITS, 2)}).encode()
    checkpoint = {
        **toy.checkpoint(),
        "evaluation.json": json.dumps(SCORES).encode(),
    }
    source = {"source": Path("raw.jsonl")}
    write(data, {**rows, "labels.json": b'["no", "yes"]\n', "summary.json": summary}, source)
    write(teacher, {**checkpoint, "model.safetensors": b"teacher"}, {"data": data})
    write(student, {**checkpoint, "model.safetensors": b"student"}, {"data": data, "teacher": teacher})
    source = {"student": student}
    if after:
        first = build / "compressed" / after
        write(first, {**checkpoint, "model.safetensors": b"half"}, {"data": data, **source})
        source = {f"compressed-{after}": first}
    settings = Loose(compression={"kind": "toy", "after": after})
    write(compressed, {**checkpoint, "model.safetensors": toy.model()}, {"data": data, **source}, settings)
    splits = dict.fromkeys(("calibration.npz", "coverage.npz", "probe.npz", "test.npz"), probe)
    cut = {"summary.json": json.dumps(toy.summary()).encode()}
    write(reference, splits | cut, {"compressed": compressed, "data": data})
    copy(converted, "compressed", compressed)
    copy(made, "converted", converted)
    measured = {"artifact": made, "reference": reference}
    answers = {"outputs.npz": {"probe": np.eye(2, dtype=np.float32)}, "items.npz": {}}
    write(build / "parity" / KEY, answers, measured)
    write(build / "benchmark" / KEY, {"metrics.json": b"{}\n"}, measured)
    digests = {stage: artifact.digest(build / stage / KEY) for stage in ("parity", "benchmark")}
    entry = {
        "compression": "none",
        "dominated": "",
        "intervals": {},
        "measured": digests,
        "metrics": {"accuracy": 0.9},
        "notes": [],
        "precision": "fp32",
        "reasons": [],
        "runtime": "toy",
        "target": "onnx-cpu",
        "thresholds": toy.thresholds(),
        "timing": "",
        "verdict": "pass",
    }
    artifact.write_json(build / "verdicts.json", {"variants": {KEY: entry}})
    state(build / "verdicts.json", ["python", "-m", "stages.toy"])
    write_lock()


def write_lock():
    """Record what lies there, as DVC does."""
    build = Path("build")
    outputs = {path.parent for pattern in ("*", "*/*") for path in build.glob(f"{pattern}/manifest.json")}
    outputs = {path for path in outputs if path.parent.name != "release"} | {build / "verdicts.json"}
    outputs |= set((build / "statements").rglob("*.json"))
    outs = [{"path": path.as_posix(), "md5": lock.md5(path)} for path in sorted(outputs)]
    gate = {"params": {"params.yaml": {"gate": toy.GATE}}}
    stages = {"all": {"deps": [{"path": "raw.jsonl"}], "outs": outs}, "gate": gate}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")


def ship(public):
    """Release, as `dvc repro` does: with a statement, and recorded."""
    chosen = {"variants": {KEY: toy.VARIANT}, "signing": {"public_key": public}, **toy.SETTINGS}
    settings = params.parse(release.Params, chosen, "")
    release.run(settings, Path("build"), Path("build/verdicts.json"), Path("dvc.lock"), Path("build/release"))
    state(Path("build/release"), ["python", "-m", "stages.release"])
    write_lock()


def flip(path, position=None, bit=0):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 1 << bit
    path.chmod(0o644)
    path.write_bytes(content)
