"""What failed is explained beside its verdicts, and only beside them."""

import json
import subprocess
import sys

import pytest

from stages import explain
from stages.core import artifact
from stages.gating import explained
from stages.schema.layout import EXPLAINED


@pytest.fixture
def build(tmp_path):
    """One variant that passed, one that failed whose artifact cannot be read."""
    entry = {"compression": "none", "reasons": ["its parity is missing"], "target": "onnx-cpu"}
    entries = {"bad": entry | {"verdict": "fail"}, "good": entry | {"reasons": [], "verdict": "pass"}}
    artifact.write_json(tmp_path / "verdicts.json", {"variants": entries})
    return tmp_path


def explain_all(build):
    explain.run(build, build / "verdicts.json", build / EXPLAINED)


def test_only_what_failed_is_explained_and_the_last_of_its_reasons_says_where(build):
    explain_all(build)
    entries = explained.read_verdicts(build / "verdicts.json")
    assert entries["good"]["reasons"] == []
    first, last = entries["bad"]["reasons"]
    assert first == "its parity is missing"
    assert last == entries["bad"]["divergence"]["conclusion"]
    assert last.startswith("first divergence not located: ")
    assert list(artifact.read_json(build / EXPLAINED)["variants"]) == ["bad"]


def test_explanations_of_other_verdicts_are_not_shown(build):
    explain_all(build)
    found = artifact.read_json(build / "verdicts.json")
    found["variants"]["bad"]["reasons"] = ["another"]
    artifact.write_json(build / "verdicts.json", found)
    assert explained.read_verdicts(build / "verdicts.json") == found["variants"]
    (build / EXPLAINED).unlink()
    assert explained.read_verdicts(build / "verdicts.json") == found["variants"]


def test_where_nothing_failed_torch_is_not_even_imported(build):
    found = artifact.read_json(build / "verdicts.json")["variants"]
    artifact.write_json(build / "verdicts.json", {"variants": {"good": found["good"]}})
    code = "import sys; from stages import explain; explain.main(sys.argv[1:]); print('torch' in sys.modules)"
    paths = ("--build", str(build), "--verdicts", str(build / "verdicts.json"), "--out", str(build / "explained.json"))
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert json.loads((build / "explained.json").read_text(encoding="utf-8"))["variants"] == {}
