"""What ran an artifact is what the loaded library says, not what the environment's metadata says."""

import subprocess
import sys

import pytest

from stages.core.closure import ROOT
from stages.core.errors import InputError
from stages.targets import executing, registry

LOCK = executing.pins(ROOT / "constraints.txt")


@pytest.mark.target
@pytest.mark.parametrize("target", ["onnx-cpu", "tflite-nnapi", "coreml-metal"])
def test_every_runtime_of_this_environment_is_the_locked_one(target):
    versions = registry.runtime(target).versions()
    assert versions
    assert {name: LOCK.get(name, version) for name, version in versions.items()} == versions
    assert executing.foreign({"parity": versions}, LOCK) == []


def test_another_copy_on_the_path_is_seen_though_the_metadata_names_the_installed_one(tmp_path):
    """The fault: another onnxruntime on PYTHONPATH shipped a verdict that named the locked one."""
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("def get_version_string():\n    return '1.19.2'\n", encoding="utf-8")
    said = (
        "from importlib import metadata; from stages.targets.onnx_cpu import runtime; "
        "print(runtime.versions()['onnxruntime'], 'installed', metadata.version('onnxruntime'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", said],
        cwd=ROOT,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"1.19.2 (beside the installed one) installed {LOCK['onnxruntime']}"


def test_a_copy_of_the_same_version_elsewhere_is_no_version_of_the_lock(tmp_path, monkeypatch):
    package = tmp_path / "yaml"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '6.0'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "yaml")
    assert executing.loaded("pyyaml", "yaml") == "6.0 (beside the installed one)"
    assert executing.loaded("no-such-distribution", "yaml") == "6.0 (beside the installed one)"
    monkeypatch.delitem(sys.modules, "yaml")


def test_a_version_that_is_not_the_locked_one_is_named_with_both_and_others_are_not():
    versions = {"parity": {"onnxruntime": "1.19.2", "macOS": "15.1"}, "benchmark": {"onnxruntime": "1.32.0"}}
    (said,) = executing.foreign(versions, {"onnxruntime": "1.32.0"})
    assert said.startswith("parity ran on onnxruntime 1.19.2, the lock has 1.32.0; ")
    assert executing.foreign({"parity": {}}, LOCK) == ["parity does not say what it ran on; run it again"]


def test_the_lock_is_read_under_the_names_that_indexes_use(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text(
        "# comment\nai_edge.litert==2.3.0\nnumpy==2.4.6 ; python_version > '3'\n\nnot a pin\n", encoding="utf-8"
    )
    assert executing.pins(path) == {"ai-edge-litert": "2.3.0", "numpy": "2.4.6"}
    with pytest.raises(InputError, match="cannot read the lock"):
        executing.pins(tmp_path / "none.txt")
