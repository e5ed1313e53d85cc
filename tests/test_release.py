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
from stages.lineage.bundle import statement_path
from stages.measure.items import arrays
from stages.measure.metrics import compare
from tests.toys import bundle as toy

# What the bundle's BOM reads of the chain.
PARAMS = {
    "data": {"data": {"kind": "clinc150", "licence": "CC-BY-3.0"}, "task": toy.TASK},
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
        "thresholds": toy.thresholds(),
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
                artifact.write_json(temporary / "summary.json", toy.summary())
                for split in ("coverage", "probe", "test"):
                    artifact.write_arrays(temporary / f"{split}.npz", toy.probe())
        recorded = artifact.manifest(root / place)
        artifact.write_json(root / place / artifact.MANIFEST, recorded | {"params": PARAMS.get(place, {})})
    for seed, key in enumerate("abc"):
        write_artifact(root, key, seed)
        parents = {"artifact": root / "artifact" / key}
        with artifact.writing(root / "parity" / key, stage="test", parents=parents) as temporary:
            logits = np.eye(2, dtype=np.float32)
            record = compare(logits, [logits], np.arange(2, dtype=np.int32), np.arange(2)).record
            artifact.write_arrays(temporary / "outputs.npz", {"probe": np.zeros((2, 2), np.float32)})
            artifact.write_arrays(temporary / "items.npz", arrays({"test": record}))
        with artifact.writing(root / "benchmark" / key, stage="test", parents=parents) as temporary:
            artifact.write_json(temporary / "metrics.json", {})
    return root


def write_lock(build):
    """What DVC would have recorded of the build as it lies there."""
    outputs = [path.parent for path in sorted(build.rglob("manifest.json")) if "release" not in path.parts]
    outputs += [build / "verdicts.json", *sorted((build / "statements").rglob("*.json"))]
    outs = [{"path": path.as_posix(), "md5": lock.md5(path)} for path in outputs]
    (build / "dvc.lock").write_text(yaml.safe_dump({"stages": {"all": {"outs": outs}}}), encoding="utf-8")


def state(build):
    """The statements that the stages behind a bundle leave, as far as a release reads them."""
    files = [path for path in sorted(build.rglob("manifest.json")) if "release" not in path.parts]
    for path in (*files, build / "verdicts.json"):
        out = path.parent if path.name == "manifest.json" else path
        subject = {"digest": {"sha256": artifact.sha256(path)}, "name": path.relative_to(build).as_posix()}
        artifact.write_json(statement_path(build, out), {"command": "toy", "subject": [subject]})


def judge(build, verdicts):
    """What the gate leaves: each verdict with the digests of what it judged."""
    for key, given in verdicts.items():
        measured = {stage: artifact.digest(build / stage / key) for stage in ("parity", "benchmark")}
        verdicts[key] = {"measured": measured, **given}
    artifact.write_json(build / "verdicts.json", {"variants": verdicts})


def release_with(build, verdicts, **changes):
    judge(build, verdicts)
    state(build)
    write_lock(build)
    ship(build, {key: toy.VARIANT | changes.get(key, {}) for key in verdicts})


def ship(build, variants):
    chosen = {"variants": variants, "signing": {"public_key": None}, **toy.SETTINGS}
    settings = params.parse(release.Params, chosen, "")
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
    ship(build, {"a": toy.VARIANT})
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


def refused(build, match):
    with pytest.raises(ArtifactError, match=match):
        ship(build, dict.fromkeys(("a", "b"), toy.VARIANT))
    assert not (build / "release").exists()


@pytest.fixture
def finished(build):
    """A build with a passing and a failing variant, as DVC recorded it."""
    judge(build, {"a": entry("pass"), "b": entry("fail", "bad")})
    state(build)
    write_lock(build)
    return build


def forge(build):
    """Exchange the verdicts on `a` and `b`."""
    verdicts = json.loads((build / "verdicts.json").read_text(encoding="utf-8"))["variants"]
    artifact.write_json(build / "verdicts.json", {"variants": {"a": verdicts["b"], "b": verdicts["a"]}})


def test_exchanged_verdicts_ship_nothing(finished):
    forge(finished)
    refused(finished, r"verdicts\.json' has md5 \w+, '.*dvc\.lock' says \w+")


def test_exchanged_verdicts_ship_nothing_where_their_statement_was_written_anew(finished):
    forge(finished)
    state(finished)
    refused(finished, r"verdicts\.json' has md5")


def test_exchanged_verdicts_ship_nothing_where_dvc_was_made_to_record_them(finished):
    forge(finished)
    write_lock(finished)
    refused(finished, "the verdict on '.*artifact/b' judged another parity than '.*parity/b'")


def test_a_verdict_that_dvc_recorded_and_the_gate_did_not_write_ships_nothing(finished):
    verdicts = json.loads((finished / "verdicts.json").read_text(encoding="utf-8"))
    verdicts["variants"]["b"]["verdict"] = "pass"
    artifact.write_json(finished / "verdicts.json", verdicts)
    write_lock(finished)
    refused(finished, r"statements/verdicts\.json' is about another '.*verdicts\.json' than lies there")


def test_an_edited_statement_ships_nothing(finished):
    path = finished / "statements/verdicts.json"
    path.write_text(path.read_text(encoding="utf-8").replace("toy", "gate"), encoding="utf-8")
    refused(finished, r"statements/verdicts\.json' has md5")


@pytest.mark.parametrize("place", ["verdicts.json", "artifact/a.json", "teacher.json"])
def test_nothing_ships_without_every_statement_behind_it(finished, place):
    (finished / "statements" / place).unlink()
    refused(finished, rf"no statement says which code made '.*': there is no '.*{place}'")


def test_verdicts_that_lie_elsewhere_ship_nothing(finished, tmp_path):
    shutil.copy(finished / "verdicts.json", tmp_path / "verdicts.json")
    chosen = {"variants": {"a": toy.VARIANT}, "signing": {"public_key": None}, **toy.SETTINGS}
    settings = params.parse(release.Params, chosen, "")
    with pytest.raises(ArtifactError, match="says no entry"):
        release.run(settings, finished, tmp_path / "verdicts.json", finished / "dvc.lock", finished / "release")


def test_a_variant_without_a_verdict_is_one_line(finished):
    with pytest.raises(ArtifactError, match="has no verdict on variant 'c'"):
        ship(finished, {"c": toy.VARIANT})


def test_a_benchmark_of_another_artifact_ships_nothing(build):
    shutil.rmtree(build / "benchmark/a")
    shutil.copytree(build / "benchmark/b", build / "benchmark/a")
    with pytest.raises(ArtifactError, match=r"is not the artifact its verdict was measured on \(benchmark\)"):
        release_with(build, {"a": entry("pass")})


@pytest.mark.parametrize("linked", ["directory", "file", "inside"])
@pytest.mark.parametrize("place", ["artifact/a", "benchmark/a", "data"])
def test_a_symbolic_link_in_anything_behind_a_bundle_ships_nothing(finished, tmp_path, place, linked):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret", encoding="utf-8")
    inside = finished / place / artifact.MANIFEST
    target = {"directory": secret, "file": secret / "key", "inside": inside}[linked]
    (finished / place / "linked").symlink_to(target)
    refused(finished, rf"{place}' has md5 .* with a symbolic link in it \('linked'\)")


def test_an_output_that_is_a_link_ships_nothing(finished, tmp_path):
    (finished / "artifact/a").rename(tmp_path / "moved")
    (finished / "artifact/a").symlink_to(tmp_path / "moved")
    refused(finished, r"artifact/a' has md5 .* with a symbolic link in it \('a'\)")


def test_a_bundle_says_which_thresholds_were_applied_and_under_which_name_it_was_sealed(build):
    release_with(build, {"a": entry("pass")})
    bundle = build / "release/a"
    assert json.loads((bundle / "verdict.json").read_text(encoding="utf-8"))["thresholds"] == toy.thresholds()
    assert "| accuracy | 0.75 | – | fraction | 10 items | 0.9 |" in (bundle / "README.md").read_text(encoding="utf-8")
    assert artifact.manifest(bundle)["facts"]["variant"] == "a"
