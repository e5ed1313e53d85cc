"""A clone of this repository to build in, with a small configuration."""

import contextlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = (
    "coreml-metal-fp16",
    "onnx-cpu-dynamic_wi8_afp32",
    "onnx-cpu-fp32",
    "tflite-nnapi-dynamic_wi8_afp32",
)
TOY = (
    "data.train_size=1200",
    "data.validation_size=200",
    "data.test_size=1200",
    "data.calibration_size=64",
    "data.probe_size=64",
    "teacher.layers=2",
    "teacher.hidden_size=64",
    "teacher.heads=2",
    "teacher.ffn_size=128",
    "teacher.training.epochs=3",
    "teacher.training.min_steps=1",
    "student=none",
    # A toy knows next to nothing: its agreement is judged, its quality is not.
    "gate=parity",
    "benchmark.repetitions=20",
    f"variant=[{','.join(VARIANTS)}]",
)
PLANTED = f"planted-{secrets.token_hex(8)}"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": PLANTED,
    "DATABASE_URL": f"postgresql://user:{PLANTED}@host/database",
    "GITHUB_TOKEN": PLANTED,
    "HF_TOKEN": f"hf_{PLANTED}",
    "MLFLOW_TRACKING_PASSWORD": PLANTED,
}

# A network of its own, without so much as a loopback that is up.
OFFLINE = ("unshare", "--map-root-user", "--net")


class Clone:
    """A git repository with a build of its own."""

    def __init__(self, path):
        self.path = path
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / "tests" / name) for name in ("targets", "loaded"))
        self.loaded = path.with_name(f"{path.name}-loaded")
        self.loaded.mkdir(parents=True)
        self.environment = environment | SECRETS | {"LOADED": str(self.loaded)}

    def run(self, *command):
        return subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True)

    def compose(self, *overrides):
        done = self.run(sys.executable, "-m", "stages.compose", *TOY, *overrides)
        assert done.returncode == 0, done.stderr

    def repro(self, *arguments, fails=False, inside=()):
        """Run `dvc repro` and return the stages that executed and those restored from the cache."""
        done = self.run(*inside, "dvc", "repro", *arguments)
        assert (done.returncode != 0) == fails, done.stdout[-3000:] + done.stderr[-3000:]
        self.output = done.stdout + done.stderr
        executed = set(re.findall(r"Running stage '(?:[^':]+:)?([^']+)'", done.stdout))
        restored = set(re.findall(r"Stage '([^']+)' is cached", done.stdout))
        return executed, restored

    def json(self, name):
        return json.loads((self.path / "build" / name).read_text(encoding="utf-8"))

    def verdicts(self):
        return {key: entry["verdict"] for key, entry in self.json("verdicts.json")["variants"].items()}

    def bundles(self):
        return {path.name for path in (self.path / "build/release").iterdir() if path.is_dir()}

    def digests(self):
        """Digest of every artifact, by variant."""
        return {
            path.parent.name: path.read_text(encoding="utf-8")
            for path in sorted((self.path / "build/artifact").glob("*/manifest.json"))
        }

    def runs(self):
        with sqlite3.connect(self.path / "mlruns/mlflow.db") as connection:
            query = "SELECT name FROM runs WHERE lifecycle_stage = 'active' AND status = 'FINISHED'"
            return sorted(row[0] for row in connection.execute(query))

    @contextlib.contextmanager
    def edited(self, name, change):
        """Change a file for the length of a block."""
        path = self.path / name
        before = path.read_text(encoding="utf-8")
        path.write_text(change(before), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")


def clone_to(path):
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listing.splitlines():
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    clone = Clone(path)
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", "--all"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "clone"],
    ):
        assert clone.run(*command).returncode == 0
    clone.compose()
    return clone
