"""`dvc repro` in a clone: three platforms from nothing, only what changed reruns, and a broken artifact never ships.

One toy build is shared by the tests of this file, which run in order; each but the last leaves it as it found it.
"""

import itertools
import json
import re
import shutil
import sqlite3
import sys

import numpy as np
import pytest
import yaml

from tests.pipeline_clone import OFFLINE, PLANTED, VARIANTS, Clone, clone_to

pytestmark = pytest.mark.pipeline


ALWAYS = {"host", "promote", "track"}
TARGETS = ("coreml_metal", "onnx_cpu", "tflite_nnapi")
DOWNSTREAM = {"gate", "explain", "report", "release"}
THRESHOLDS = {"sizes", *DOWNSTREAM}  # which a verdict and its report show

# What leaves the build: the tracking server's part, bundles, and what people forward.
PUBLISHED = ("mlruns", "build/release", "build/report", "build/statements")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    clone = clone_to(tmp_path_factory.mktemp("pipeline") / "clone")
    clone.offline = clone.run(*OFFLINE, "true")
    clone.first = clone.repro(inside=() if clone.offline.returncode else OFFLINE)[0]
    return clone


def test_a_cold_build_makes_three_platforms_and_ships_what_passes(built):
    assert {name.partition("@")[0] for name in built.first} >= {
        "check", "prepare", "teacher", "distill", "compress", "reference", "convert", "quantize", "coverage", "parity",
        "benchmark", "gate", "explain", "report", "track", "release", "promote",
    }  # fmt: skip
    assert built.verdicts() == dict.fromkeys(VARIANTS, "pass")
    assert built.bundles() == set(VARIANTS)
    assert (built.path / "build/release/tflite-nnapi-dynamic_wi8_afp32/model.tflite").is_file()
    assert (built.path / "build/release/coreml-metal-fp16/model.mlpackage/Manifest.json").is_file()
    assert (built.path / "build/release/onnx-cpu-fp32/model.onnx").is_file()
    assert (built.path / "build/report/index.html").stat().st_size > 10_000
    assert len(built.runs()) == 1 + len(VARIANTS)


def test_the_whole_build_needs_no_network(built):
    if built.offline.returncode:
        pytest.skip(f"this kernel gives no network namespace to us: {built.offline.stderr.strip()}")
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    assert "Network is unreachable" in built.run(*OFFLINE, sys.executable, "-c", program).stderr
    assert {f"{stage}@onnx-cpu-fp32" for stage in ("parity", "benchmark")} <= built.first


def test_nothing_of_the_environment_is_written_anywhere(built):
    files = [path for path in built.path.rglob("*") if path.is_file()]
    assert len(files) > 300
    assert not [path for path in files if PLANTED.encode() in path.read_bytes()]


def test_no_utterance_leaves_the_build(built):
    splits = {
        path.stem: path.read_text(encoding="utf-8").splitlines() for path in (built.path / "build/data").glob("*.jsonl")
    }
    texts = {json.loads(row)["text"] for rows in splits.values() for row in rows[::4]}
    texts = {text.encode() for text in texts if len(text) > 12}
    assert len(texts) > 500
    assert any(text in (built.path / "build/data/test.jsonl").read_bytes() for text in texts)
    files = [path for place in PUBLISHED for path in (built.path / place).rglob("*") if path.is_file()]
    assert {"mlflow.db", "golden.npz", "index.html"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not [text for text in texts if text in content], path
    golden = np.load(built.path / "build/release/onnx-cpu-fp32/golden.npz")
    for split in ("test", "calibration"):
        rows = np.load(built.path / f"build/reference/none/{split}.npz")["input_ids"].tolist()
        assert not [row for row in golden["input_ids"].tolist() if row in rows]


def test_the_verdicts_keep_their_contract_with_outside_tools(built):
    entries = built.json("verdicts.json")["variants"]
    for entry in entries.values():
        assert {"target", "compression", "precision", "verdict", "reasons", "metrics"} <= set(entry)
        assert {"size_bytes", "accuracy", "top1_agreement", "max_abs_error", "n"} <= set(entry["metrics"])
        assert all(isinstance(value, int | float) for value in entry["metrics"].values())
        assert ("latency_p50_ms" in entry["metrics"]) == (entry["target"] != "coreml-metal" or sys.platform == "darwin")
    label = "reference-interpreted" if sys.platform != "darwin" else "coreml-all"
    assert entries["coreml-metal-fp16"]["runtime"] == label


def test_no_stage_imports_what_the_list_of_its_code_leaves_out(built):
    """The lists are read from the source; this is what ran. A worker is part of the stage that started it."""
    processes = {int(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in built.loaded.iterdir()}
    seen = set()
    for process in processes.values():
        command = processes.get(process["parent"], process)["command"]
        stage, options = command[2].removeprefix("stages."), dict(itertools.pairwise(command))
        parts = [stage, options.get("--target", "").replace("-", "_"), options.get("--name")]  # no variant compresses
        unit = "-".join(filter(None, parts))
        if "--statement" in command:
            lacking = set(process["files"]) - set(built.json(f"sources/classify/{unit}.json"))
            # It tells the versions of every target's runtimes, and depends on host.json, which says them too.
            allowed = {f"stages/targets/{name}/__init__.py" for name in TARGETS} if stage == "benchmark" else set()
            assert lacking <= allowed, unit
            seen.add(unit)
    assert {"teacher", "compress-none", "convert-onnx_cpu", "parity-tflite_nnapi", "benchmark-onnx_cpu"} <= seen


def test_a_change_reruns_what_it_touches_and_its_reversal_runs_nothing(built):
    """A threshold reruns what judges, of all variants; a precision what makes and measures its own.

    What runs nothing fills a tracking database that was deleted, too.
    """
    runs = built.runs()
    before, changed = built.digests(), "onnx-cpu-dynamic_wi8_afp32"
    reruns = {f"{stage}@{changed}" for stage in ("quantize", "coverage", "parity", "benchmark")} | THRESHOLDS
    built.compose("gate.interval_below_n=999", f"variants.{changed}.precision=static_wi8_ai8")
    executed, restored = built.repro()
    assert executed - ALWAYS - {"check"} == reruns
    assert not restored - {"check"}
    built.compose()
    shutil.rmtree(built.path / "mlruns")
    executed, restored = built.repro()
    assert executed <= ALWAYS
    assert reruns <= restored
    assert built.digests() == before
    assert set(built.runs()) <= set(runs)
    assert len(built.runs()) == 1 + len(VARIANTS)


def test_editing_one_target_reruns_that_target_only(built):
    """What would run says DVC, once the lists of code are written anew: nothing has to be built to show it."""
    with built.edited("stages/targets/onnx_cpu/runtime.py", lambda text: text + "\n# a comment\n"):
        assert built.repro("sources")[0] == {"sources"}
        executed, _ = built.repro("--dry")
    instances = {name for name in executed if "@" in name}
    assert {name.partition("@")[2] for name in instances} == {"onnx-cpu-dynamic_wi8_afp32", "onnx-cpu-fp32"}
    assert {name.partition("@")[0] for name in instances} == {"quantize", "coverage", "parity", "benchmark"}
    assert executed - instances - ALWAYS - {"sources"} <= DOWNSTREAM
    assert built.repro("sources") == (set(), {"sources"})


def test_another_clone_takes_the_build_as_it_is_and_leaves_the_lock_as_it_was(built, tmp_path):
    """What CI runs: in dvc.lock everything is of the build, and nothing of a clone."""
    assert built.run("git", "add", "dvc.lock", "clone/dvc.lock", "params.yaml").returncode == 0
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    assert built.run("git", *identity, "commit", "--quiet", "-m", "built").returncode == 0
    other = Clone(tmp_path / "other")
    assert built.run("git", "clone", "--quiet", str(built.path), str(other.path)).returncode == 0
    remote = ("dvc", "remote", "add", "--local", "--quiet", "--default", "beside", str(tmp_path / "remote"))
    for clone in (built, other):
        assert clone.run(*remote).returncode == 0
    try:
        assert built.run("dvc", "push", "--quiet").returncode == 0
    finally:
        built.run("dvc", "remote", "remove", "--local", "beside")
    for arguments in (("--pull", "--allow-missing"), ()):
        assert other.run(sys.executable, "-m", "stages.current").returncode == 0
        assert other.repro(*arguments) == (ALWAYS, set())
        assert other.run("git", "status", "--short").stdout == ""
        assert len(other.runs()) == 1 + len(VARIANTS)
        assert set(other.runs()) <= set(built.runs())
        assert other.run("dvc", "pull", "--quiet").returncode == 0
    assert "MLflow has this build" in other.output


def test_no_output_that_dvc_tracks_names_the_place_it_was_built_in(built):
    lock = yaml.safe_load((built.path / "dvc.lock").read_text(encoding="utf-8"))
    outputs = [built.path / out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])]
    files = [file for out in outputs for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file()]
    assert len(files) > 100
    assert [str(file) for file in files if str(built.path).encode() in file.read_bytes()] == []


def test_an_applied_experiment_leaves_nothing_that_runs_again_and_no_trace_of_what_it_left_out(built):
    done = built.run("dvc", "exp", "run", "--temp", "--name", "fewer", "--set-param", "variant=[onnx-cpu-fp32]")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for command in (["dvc", "exp", "apply", "fewer"], ["git", "checkout", "--quiet", "dvc.lock", "params.yaml"]):
        assert built.run(*command).returncode == 0
        assert built.run("dvc", "checkout", "--force").returncode == 0
        # DVC knows most of what it leaves, but not what a moved or copied clone brought along.
        for stage in ("artifact", "compressed", "converted", "reference"):
            (built.path / "build" / stage / "gone").mkdir()
        assert built.repro() == (ALWAYS, set())
        chosen = {"onnx-cpu-fp32"} if "apply" in command else set(VARIANTS)
        assert built.bundles() == set(built.verdicts()) == chosen
        assert {path.name for path in (built.path / "build/artifact").iterdir() if path.is_dir()} == chosen
        page = (built.path / "build/report/index.html").read_text(encoding="utf-8")
        assert {key for key in VARIANTS if key in page} == chosen


def inject(built, *arguments):
    done = built.run(sys.executable, "-m", "stages.inject", "--build", "build", "--json", "kills.json", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((built.path / "kills.json").read_text(encoding="utf-8"))


def test_no_fault_put_into_an_artifact_ships_and_every_clean_one_does(built):
    found = inject(built)
    assert found["summary"]["killed"] == found["summary"]["faults"]
    assert found["summary"]["false_alarms"] == 0
    for target in ("coreml-metal-fp16", "onnx-cpu-dynamic_wi8_afp32", "tflite-nnapi-dynamic_wi8_afp32"):
        applied = [fault for fault, row in found["table"].items() if row[target]["verdict"] in ("fail", "refused")]
        assert len(applied) >= 15


def test_no_fault_of_a_converter_ships(built):
    found = inject(built, "--stage", "convert", "--variant", "onnx-cpu-dynamic_wi8_afp32")
    assert found["summary"]["killed"] == found["summary"]["faults"] >= 15
    assert found["summary"]["false_alarms"] == 0


def test_no_forged_verdict_ships_and_no_forged_bundle_passes_its_audit(built):
    found = inject(built, "--stage", "release", "--variant", "onnx-cpu-dynamic_wi8_afp32")
    assert found["summary"]["killed"] == found["summary"]["faults"] == 9
    assert found["summary"]["false_alarms"] == 0


def test_a_corrupted_byte_in_an_artifact_fails_the_gate_and_dvc_rebuilds_it(built):
    path = built.path / "build/artifact/onnx-cpu-fp32/model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.unlink()
    path.write_bytes(content)
    places = ("--artifact", "build/artifact/onnx-cpu-fp32", "--reference", "build/reference/none")
    places += ("--converted", "build/converted/none-onnx-cpu", "--checkpoint", "build/compressed/none")
    places += ("--teacher", "build/teacher", "--data", "build/data", "--out", "build/parity/onnx-cpu-fp32")
    assert built.run(sys.executable, "-m", "stages.parity", "--target", "onnx-cpu", *places).returncode == 0
    gate = ("--build", "build", "--verdicts", "build/verdicts.json", "--metrics", "build/metrics.json")
    gate += ("--constraints", "constraints.txt")
    gate += ("--statement", "build/statements/verdicts.json")
    assert built.run(sys.executable, "-m", "stages.gate", *gate).returncode == 0
    entry = built.json("verdicts.json")["variants"]["onnx-cpu-fp32"]
    assert entry["verdict"] == "fail"
    assert "'model.onnx' has sha256" in entry["reasons"][0]
    release = ("--build", "build", "--verdicts", "build/verdicts.json", "--lock", "dvc.lock", "--out", "build/release")
    done = built.run(sys.executable, "-m", "stages.release", *release)
    assert done.returncode == 1
    assert re.search("'build/verdicts.json' has md5 .*, 'dvc.lock' says", done.stderr)
    built.repro()
    assert built.verdicts() == dict.fromkeys(VARIANTS, "pass")
    assert built.bundles() == set(VARIANTS)


def test_a_bundle_audits_back_to_its_data_and_its_artifact_is_made_again(built):
    done = built.run(sys.executable, "-m", "stages.audit", "--rebuild", "--json", "build/release/onnx-cpu-fp32")
    assert done.returncode == 0, done.stdout + done.stderr
    root = json.loads(done.stdout)
    links, waiting = {}, [root]
    while waiting:
        link = waiting.pop()
        links[link["name"]] = link
        waiting += link["below"]
    for name in ("artifact onnx-cpu-fp32", "converted none-onnx-cpu", "compressed none", "student", "teacher", "data"):
        assert links[name]["verdict"] == "intact", links[name]
        assert not links[name]["unfollowed"], links[name]
    assert links["rebuilt artifact/onnx-cpu-fp32"]["notes"] == ["4 files, byte for byte the same"]
    (mlflow,) = [link for name, link in links.items() if name.startswith("MLflow")]
    assert mlflow["verdict"] == "agrees"
    assert not mlflow["unfollowed"]


def test_dvc_shows_metrics_params_and_plots(built):
    metrics = json.loads(built.run("dvc", "metrics", "show", "--json").stdout)
    values = metrics[""]["data"]["build/metrics.json"]["data"]
    assert values["onnx-cpu-fp32"]["top1_agreement"] == 1
    plots = built.run("dvc", "plots", "show", "--json")
    assert plots.returncode == 0, plots.stderr
    assert "latency_p50_ms" in plots.stdout


FAULT = """
        import faults_coreml, faults_onnx, faults_tflite
        zero = {"coreml-metal": faults_coreml.zero_coreml_layer, "onnx-cpu": faults_onnx.zero_onnx_layer,
                "tflite-nnapi": faults_tflite.zero_tflite_layer}[settings.target.name]
        model = next(temporary.glob("model.*"))
        zero(model)
        artifact.write_json("""


def test_a_layer_zeroed_by_a_converter_bug_fails_every_target_and_nothing_ships(built):
    """The manifest is intact here: only what the artifact computes gives it away. The last test, for all has failed."""
    with built.edited("stages/quantize.py", lambda text: text.replace("\n        artifact.write_json(", FAULT, 1)):
        assert "zero(model)" in (built.path / "stages/quantize.py").read_text(encoding="utf-8")
        built.repro(fails=True)
        assert built.verdicts() == dict.fromkeys(VARIANTS, "fail")
        assert built.bundles() == set()
        assert f"{len(VARIANTS)} required variant(s) may not ship" in built.output
        explained = built.json("explained.json")["variants"]
        assert all(found["conclusion"].startswith("first divergence: bert.") for found in explained.values())
        assert set(explained) == set(VARIANTS)
        tracked = sqlite3.connect(built.path / "mlruns/mlflow.db").execute(
            "SELECT count(*) FROM tags WHERE key = 'verdict' AND value = 'fail'"
        )
        assert tracked.fetchone()[0] == len(VARIANTS)
