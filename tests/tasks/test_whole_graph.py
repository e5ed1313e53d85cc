"""A task and a family that nothing here knows: a folder and a file of settings, a file, and `dvc repro` ships them."""

import json
import shutil
import sys

import pytest

from tests.pipeline_clone import ROOT, clone_to

pytestmark = pytest.mark.pipeline

ADDED = {
    "tests/toys/tasks/tag": "stages/tasks/tag",
    "tests/toys/tasks/tag.yaml": "conf/task/tag.yaml",
    "tests/toys/ernie.py": "stages/models/families/ernie.py",
}
VARIANTS = ("coreml-metal-fp16", "onnx-cpu-fewer_layers-dynamic_wi8_afp32", "tflite-nnapi-fp32")
SMALL = (
    "task=tag",
    "teacher.family=ernie",
    "data.train_size=400",
    "data.validation_size=120",
    "data.test_size=1000",
    "student=tiny",
    "student.hidden_size=32",
    "student.ffn_size=64",
    "teacher.training.min_steps=1",
    "distill.training={epochs: 2, min_steps: 1}",
    "compressions.fewer_layers.recovery.training={epochs: 1, min_steps: 1}",
    "benchmark.repetitions=10",
    "benchmark.utterances=8",
    f"variant=[{','.join(VARIANTS)}]",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    clone = clone_to(tmp_path_factory.mktemp("adding") / "clone")
    for source, place in ADDED.items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, clone.path / place)
    commit = ["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "added"]
    for command in (["add", *ADDED.values()], commit):
        assert clone.run("git", *command).returncode == 0
    clone.compose(*SMALL)
    clone.repro()
    return clone


def test_they_are_built_judged_and_released_for_every_target(built):
    assert built.verdicts() == dict.fromkeys(VARIANTS, "pass")
    assert built.bundles() == set(VARIANTS)
    for stage in ("teacher", "student", "compressed/fewer_layers"):
        config = built.json(f"{stage}/config.json")
        assert (config["model_type"], config["architectures"]) == ("ernie", ["ErnieForTokenClassification"])
    for key in VARIANTS:
        (call,) = built.json(f"release/{key}/signature.json")["calls"]
        assert [output["axes"][1:] for output in call["outputs"]] == [["sequence", "classes"]]
        entry = built.json("verdicts.json")["variants"][key]
        assert entry["metrics"]["n"] == 1000 < entry["counts"]["accuracy"]


def test_nothing_was_edited_for_them(built):
    assert built.run("git", "diff", "--diff-filter=a", "--name-only", "HEAD~1", "HEAD").stdout == ""
    changed = built.run("git", "status", "--short").stdout.split()
    assert changed == ["M", "params.yaml", "??", "clone/dvc.lock", "??", "dvc.lock"]


def test_a_bundle_of_theirs_audits_back_to_its_data(built):
    done = built.run(sys.executable, "-m", "stages.audit", "--json", f"build/release/{VARIANTS[1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    links, waiting = {}, [json.loads(done.stdout)]
    while waiting:
        link = waiting.pop()
        links[link["name"]] = link["verdict"]
        waiting += link["below"]
    assert {name for name in ("student", "teacher", "data") if links[name] == "intact"} == {
        "student",
        "teacher",
        "data",
    }


def test_no_fault_put_into_their_artifacts_ships(built):
    arguments = ("--build", "build", "--json", "kills.json", "--variant", VARIANTS[1])
    done = built.run(sys.executable, "-m", "stages.inject", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((built.path / "kills.json").read_text(encoding="utf-8"))["summary"]
    (built.path / "kills.json").unlink()
    assert found["killed"] == found["faults"] > 25
    assert found["false_alarms"] == 0


def test_dvc_plots_how_good_they_are(built):
    plots = built.run("dvc", "plots", "show", "--json")
    assert plots.returncode == 0, plots.stderr
    assert json.loads(plots.stdout)["data"].keys() == {
        "quality by latency", "quality by size", "quality lost per step", "distillation",
    }  # fmt: skip
    assert "errors" not in json.loads(plots.stdout)
