"""No command of ours phones home: the libraries say so themselves; the one that starts at import leaves no trace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stages

ROOT = Path(__file__).resolve().parents[1]
SWITCHES = (*stages.QUIET_ENVIRONMENT, "DVC_NO_ANALYTICS")
# MLflow says no under pytest and in CI anyway, which would prove nothing.
CI = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")


def ask(program, home, **environment):
    """Run a program as a stage's process begins, with none of the switches set outside."""
    inherited = {name: value for name, value in os.environ.items() if name not in (*SWITCHES, *CI)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=inherited | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)", "True"),
        ("from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())", "True"),
    ],
)
def test_a_library_says_that_it_is_switched_off_by_us_and_by_nothing_else(tmp_path, question, answer):
    assert ask(f"import stages; {question}", tmp_path) == answer
    assert ask(question, tmp_path) != answer


def test_dvc_says_that_it_is_switched_off_in_this_repository(tmp_path):
    question = "from dvc.analytics import is_enabled; print(is_enabled())"
    assert ask(question, tmp_path) == "False"
    assert ask(f"import os; os.chdir({str(tmp_path)!r}); {question}", tmp_path) == "True"


def test_onnx_runtime_opens_no_store_of_events(tmp_path):
    """It does so while it is imported, before its own switch can be called."""
    ask("import stages.core.cli; import onnxruntime", tmp_path)
    assert not list(tmp_path.rglob("*.db"))


def test_a_person_may_decide_otherwise(tmp_path):
    program = "import stages, os; print(os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    assert ask(program, tmp_path, HF_HUB_DISABLE_TELEMETRY="0") == "0"


def test_benchmarks_and_make_hold_to_it_too(tmp_path):
    assert ask("import benchmarks, os; print(os.environ['ORT_DISABLE_TELEMETRY'])", tmp_path) == "1"
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    for switch in ("DO_NOT_TRACK", "DVC_NO_ANALYTICS", "MLFLOW_DISABLE_TELEMETRY"):
        assert f"\nexport {switch} := " in made
