"""What may not ship is not there to be shipped."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import yaml

from stages import release
from stages.core import artifact, params
from stages.core.errors import ArtifactError, ReleaseRefused
from stages.lineage import lock
from tests.bundling import toy

VARIANT = {
    "compression": "none",
    "target": "onnx-cpu",
    "precision": "fp32",
    "required": True,
    "release_not_measured": False,
}


TASK = {"name": "classify", "max_length": toy.LENGTH, "sequence_lengths": [toy.LENGTH]}
# What the bundle's BOM reads of the chain.
PARAMS = {
    "data": {"data": {"kind": "clinc150", "licence": "CC-BY-3.0"}, "task": TASK},
    "teacher": {"teacher": {"kind": "train", "licence": "Apache-2.0"}},
}
SPLITS = ("train", "validation", "calibration", "probe", "test")
SCORES = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "n": 2, "parameters": 9}


def entry(verdict, *reasons):
    return {
        "compression": "none",
        "dominated": "",
        "intervals": {},
        "metrics": {"accuracy": 0.9},
        "notes": [],
        "precision": "fp32",
        "reasons": list(reasons),
        "runtime": "onnxruntime-cpu",
        "target": "onnx-cpu",
        "timing": "",
        "verdict": verdict,
    }


def write_artifact(root, key, seed):
    with artifact.writing(root / "artifact" / key, stage="test", parents={}) as temporary:
        (temporary / "model.onnx").write_bytes(toy.model(seed))
        (temporary / "signature.json").write_bytes(toy.signature())


@pytest.fixture
def build(tmp_path):
    """A build with one compression and three variants `a`, `b`, `c`."""
    root = tmp_path / "build"
    for place in ("converted/none-onnx-cpu", "teacher", "student", "data", "compressed/none", "reference/none"):
        with artifact.writing(root / place, stage="test", parents={}) as temporary:
            if place == "data":
                artifact.write_json(temporary / "labels.json", list(toy.LABELS))
                artifact.write_json(temporary / "summary.json", {"counts": dict.fromkeys(SPLITS, 2)})
                for split in SPLITS:
                    (temporary / f"{split}.jsonl").write_text(f"{split}\n", encoding="utf-8")
            if place in ("compressed/none", "student", "teacher"):
                for name, content in toy.checkpoint().items():
                    (temporary / name).write_bytes(content)
                (temporary / "model.safetensors").write_text("weights", encoding="utf-8")
                artifact.write_json(temporary / "evaluation.json", SCORES)
            if place == "reference/none":
                for split in ("coverage", "probe", "test"):
                    artifact.write_arrays(temporary / f"{split}.npz", toy.probe())
        recorded = artifact.manifest(root / place)
        artifact.write_json(root / place / artifact.MANIFEST, recorded | {"params": PARAMS.get(place, {})})
    for seed, key in enumerate("abc"):
        write_artifact(root, key, seed)
        parents = {"artifact": root / "artifact" / key}
        with artifact.writing(root / "parity" / key, stage="test", parents=parents) as temporary:
            outputs = {"probe": np.zeros((2, 2), np.float32), "test": np.eye(2, dtype=np.float32)}
            artifact.write_arrays(temporary / "outputs.npz", outputs)
        with artifact.writing(root / "benchmark" / key, stage="test", parents=parents) as temporary:
            artifact.write_json(temporary / "metrics.json", {})
    return root


def write_lock(build):
    """What DVC would have recorded of the build as it lies there."""
    outputs = [path.parent for path in sorted(build.rglob("manifest.json")) if "release" not in path.parts]
    outs = [{"path": path.as_posix(), "md5": lock.md5(path)} for path in outputs]
    (build / "dvc.lock").write_text(yaml.safe_dump({"stages": {"all": {"outs": outs}}}), encoding="utf-8")


def release_with(build, verdicts, **changes):
    variants = {key: VARIANT | changes.get(key, {}) for key in verdicts}
    artifact.write_json(build / "verdicts.json", {"variants": verdicts})
    chosen = {"variants": variants, "signing": {"public_key": None}, **toy.SETTINGS}
    settings = params.parse(release.Params, chosen, "")
    write_lock(build)
    release.run(settings, build, build / "verdicts.json", build / "dvc.lock", build / "release")


def bundles(build):
    return sorted(path.name for path in (build / "release").iterdir() if path.is_dir())


def test_a_passing_variant_ships_with_everything_an_app_needs(build):
    release_with(build, {"a": entry("pass")})
    bundle = build / "release" / "a"
    assert {path.name for path in bundle.iterdir()} == {
        "README.md", "SHA256SUMS", "attestation.json", "bom.cdx.json", "golden.npz", "hf", "labels.json", "labels.txt",
        "limits.json", "lineage", "manifest.json", "model.onnx", "probe.json", "samples", "signature.json", "tokenizer",
        "verdict.json",
    }  # fmt: skip
    assert subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=bundle).returncode == 0
    assert set(artifact.read_arrays(bundle / "golden.npz")) == {
        "artifact_logits", "attention_mask", "input_ids", "reference_logits", "test_answers",
    }  # fmt: skip
    assert artifact.read_arrays(bundle / "golden.npz")["test_answers"].tolist() == [0, 1]
    manifest = artifact.manifest(bundle)
    assert manifest["parents"]["artifact"] == artifact.digest(build / "artifact" / "a")
    assert set(manifest["parents"]) >= {"artifact", "compressed", "converted", "data", "student", "teacher"}


def test_a_required_variant_that_failed_stops_the_build_and_does_not_ship(build):
    verdicts = {"a": entry("pass"), "b": entry("fail", "top1_agreement value 0.1 < 0.97 fraction")}
    with pytest.raises(ReleaseRefused, match=r"1 required variant.*'b' is fail \(top1_agreement value 0\.1"):
        release_with(build, verdicts)
    assert bundles(build) == ["a"]


def test_every_required_variant_without_a_pass_is_named(build):
    verdicts = {key: entry("fail", "bad") for key in "abc"}
    with pytest.raises(ReleaseRefused, match="3 required .*'a' is fail.*'b' is fail.*'c' is fail"):
        release_with(build, verdicts)
    assert bundles(build) == []


def test_a_failing_variant_that_is_not_required_does_not_ship_either(build):
    release_with(build, {"a": entry("pass"), "b": entry("fail", "bad")}, b={"required": False})
    assert bundles(build) == ["a"]


def test_an_unmeasured_variant_ships_only_where_its_conf_says_so_and_says_it_loudly(build):
    verdicts = {"a": entry("not_measured", "Core ML runs on macOS only")}
    with pytest.raises(ReleaseRefused, match="'a' is not_measured"):
        release_with(build, verdicts)
    assert bundles(build) == []
    release_with(build, verdicts, a={"release_not_measured": True})
    warning = json.loads((build / "release/a/verdict.json").read_text(encoding="utf-8"))["WARNING"]
    assert warning.startswith("NOT MEASURED")


def test_a_stale_bundle_of_a_variant_that_now_fails_is_gone(build):
    release_with(build, {"a": entry("pass"), "b": entry("pass")})
    assert bundles(build) == ["a", "b"]
    with pytest.raises(ReleaseRefused, match="'b' is fail"):
        release_with(build, {"a": entry("pass"), "b": entry("fail", "bad")})
    assert bundles(build) == ["a"]


def test_an_artifact_altered_after_its_verdict_does_not_ship(build):
    release_with(build, {"a": entry("pass")})
    (build / "artifact/a/model.onnx").write_bytes(toy.model(9))
    with pytest.raises(ArtifactError, match=r"'model\.onnx' has sha256"):
        release_with(build, {"a": entry("pass")})
    assert (build / "release/a/model.onnx").read_bytes() == toy.model(0)


def test_an_output_edited_together_with_its_manifest_does_not_ship(build, monkeypatch):
    release_with(build, {"a": entry("pass")})
    write_artifact(build, "a", 9)
    monkeypatch.setitem(globals(), "write_lock", lambda build: None)
    with pytest.raises(ArtifactError, match=r"artifact/a' has md5 \w+\.dir, '.*dvc\.lock' says \w+\.dir"):
        release_with(build, {"a": entry("pass")})
    assert (build / "release/a/model.onnx").read_bytes() == toy.model(0)


def test_two_releases_are_byte_identical(build):
    release_with(build, {"a": entry("pass")})
    first = artifact.digest(build / "release")
    release_with(build, {"a": entry("pass")})
    assert artifact.digest(build / "release") == first


def test_a_verdict_measured_on_another_artifact_ships_nothing(build):
    """The manifest is in order here: another variant's bytes, taken over whole, under this variant's name."""
    shutil.rmtree(build / "artifact/a")
    shutil.copytree(build / "artifact/b", build / "artifact/a")
    with pytest.raises(ArtifactError, match="is not the artifact its verdict was measured on"):
        release_with(build, {"a": entry("pass")})
    assert not (build / "release").exists()


def test_a_bundle_that_only_an_interpreter_ran_says_so_in_its_manifest(build):
    release_with(build, {"a": entry("pass") | {"runtime": "reference-interpreted"}})
    facts = artifact.manifest(build / "release/a")["facts"]
    assert facts["verdict"] == "pass"
    assert facts["WARNING"].startswith("NOT RUN BY CORE ML")
