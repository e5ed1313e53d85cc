"""A host is described by what decides a latency, and toolchain noise goes where it belongs."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages import host, track
from stages.core import artifact, process
from stages.core.errors import ArtifactError
from stages.targets.facts import runtimes

ROOT = Path(__file__).resolve().parents[2]


def test_a_fingerprint_repeats_and_names_cpu_cores_and_runtimes():
    first = process.host_fingerprint(runtimes())
    assert first == process.host_fingerprint(runtimes())
    assert {"cpu_model", "cores", "os", "runtime_onnxruntime", "runtime_ai-edge-litert"} <= set(first)


def test_a_build_that_moved_to_another_host_is_not_passed_on(tmp_path):
    host.run(tmp_path / "host.json", {})
    track._check_host(tmp_path / "host.json")
    elsewhere = artifact.read_json(tmp_path / "host.json") | {"cpu_model": "another"}
    artifact.write_json(tmp_path / "host.json", elsewhere)
    with pytest.raises(ArtifactError, match=r"another host \(cpu_model differ\).*run `dvc repro`"):
        track._check_host(tmp_path / "host.json")


def test_noise_of_python_and_of_c_goes_to_the_log(tmp_path):
    code = (
        "import os; from pathlib import Path; from stages.core import process\n"
        f"with process.quiet(Path({str(tmp_path)!r}) / 'logs/noise.log'):\n"
        "    print('python noise', flush=True); os.write(2, b'c noise\\n')\n"
        "print('ours')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("ours\n", "")
    assert (tmp_path / "logs/noise.log").read_text(encoding="utf-8") == "python noise\nc noise\n"


def test_what_is_hidden_seems_not_installed_until_it_is_needed():
    code = (
        "import importlib.util, numpy, sys; from stages.core import process\n"
        "with process.hidden(('numpy', 'tomllib')):\n"
        "    import numpy; print(importlib.util.find_spec('tomllib'))\n"
        "import tomllib; print(tomllib.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\ntomllib\n", "")
