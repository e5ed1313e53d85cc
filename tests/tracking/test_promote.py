"""The alias `released` stands on what lies in a bundle, and nowhere else."""

import pytest

from stages import promote
from stages.asking import record as clients
from stages.core import artifact, params
from stages.lineage import recorded
from stages.schema.layout import CLIENTS, PLACES
from stages.tracking import place, record
from stages.tracking import tracked as readback
from tests.toys import bundle as toy
from tests.toys.tracked_build import ask, collect, here, write_variant

SHIPPED = ("coreml-metal-fp16", "onnx-cpu-fp32")
BOUND = {"top1_agreement": 1.0, "probability_difference": 0.001}
OPTIONAL = {"utterances": 1, "required": ["optimum"], "before_release": False, "exact": BOUND, "quantized": BOUND}
pytestmark = pytest.mark.target


def bundle(build, key):
    """What the release writes of a variant, as far as promoting reads it."""
    chain = next(variant.chain for variant in collect(build).variants if variant.key == key)
    artifact.write_json(build / "release" / key / artifact.MANIFEST, {"parents": dict(chain)})
    (build / "release" / key / "signature.json").write_bytes(toy.signature())


def released(build):
    rows = ask(build, "SELECT name, version FROM registered_model_aliases WHERE alias = 'released'")
    return {name.removeprefix("tinsmith."): version for name, version in rows}


@pytest.fixture
def shipped(tracked, monkeypatch):
    """The tracked build with its bundles, in the current directory."""
    monkeypatch.chdir(tracked.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for key in SHIPPED:
        bundle(tracked, key)
    artifact.write_json(tracked.parent / "params.yaml", {"clients": OPTIONAL})  # JSON is YAML
    return tracked


def test_released_moves_with_the_bundle_and_not_with_the_candidate(shipped, capsys):
    arguments = ["--release", str(shipped / "release"), "--promoted", str(shipped / "promoted.json")]
    assert promote.main(arguments) == 0
    assert capsys.readouterr().out == f"MLflow: released {', '.join(SHIPPED)}\n"
    assert released(shipped) == dict.fromkeys(SHIPPED, 1)

    chains = promote.chains(shipped / "release")
    said = {key: {stage: sha[: record.SHORT] for stage, sha in chain.items()} for key, chain in chains.items()}
    assert place.released(shipped.parent / "mlruns/mlflow.db", "tinsmith", said)
    assert promote.main(arguments) == 0
    assert capsys.readouterr().out == "MLflow: `released` stands where it should\n"

    write_variant(shipped, "onnx-cpu-fp32", "other bytes")
    here(shipped)
    promote.main(arguments)
    assert released(shipped) == dict.fromkeys(SHIPPED, 1)
    bundle(shipped, "onnx-cpu-fp32")
    promote.main(arguments)
    assert released(shipped) == {"coreml-metal-fp16": 1, "onnx-cpu-fp32": 2}


def test_an_audit_still_knows_the_database_by_its_bytes_and_a_changed_byte_after_it(shipped):
    database, fingerprint = shipped.parent / "mlruns/mlflow.db", collect(shipped).fingerprint
    where = place.choose({"MLFLOW_TRACKING_URI": f"sqlite:///{database}"})
    record_of_it = readback.take(shipped, where, fingerprint, [fingerprint], ["build"])
    artifact.write_json(shipped / "tracked.json", record_of_it)
    settings = params.parse(promote.Params, {"clients": OPTIONAL}, "")
    promote.run(settings, shipped / "release", shipped / "promoted.json")
    assert any("byte for byte" in note for link in recorded.compare_build(shipped) for note in link.notes)
    with database.open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last[0] ^ 1]))
    assert not any("byte for byte" in note for link in recorded.compare_build(shipped) for note in link.notes)


def test_a_bundle_that_no_version_was_tracked_of_moves_nothing(shipped):
    artifact.write_json(shipped / "release/onnx-cpu-fp32/manifest.json", {"parents": dict.fromkeys(PLACES, "f" * 64)})
    promote.main(["--release", str(shipped / "release"), "--promoted", str(shipped / "promoted.json")])
    assert released(shipped) == {"coreml-metal-fp16": 1}


def test_a_version_that_only_says_it_is_the_bundles_is_not_released(shipped):
    from mlflow import MlflowClient

    where = place.choose({})
    client, name = MlflowClient(where.uri, registry_uri=where.uri), "tinsmith.onnx-cpu-fp32"
    real = client.get_model_version(name, "1")
    other = client.get_model_version("tinsmith.coreml-metal-fp16", "1")
    client.create_model_version(name, source=other.source, run_id=other.run_id, tags=real.tags)
    assert promote.main(["--release", "build/release", "--promoted", "build/promoted.json"]) == 0
    assert released(shipped) == dict.fromkeys(SHIPPED, 1)


def test_an_experiment_that_is_not_the_workspaces_build_moves_no_alias(shipped, monkeypatch, capsys):
    monkeypatch.setenv("TINSMITH_SWEEP", "mine")
    assert promote.main(["--release", "build/release", "--promoted", "build/promoted.json"]) == 0
    assert "sweep mine is not the workspace's build" in capsys.readouterr().out
    assert released(shipped) == {}


def answered(build, verdict, **entry):
    """What Optimum answered to the bundle that lies there, which has a Hugging Face directory for it."""
    directory = build / "release/onnx-cpu-fp32"
    (directory / "hf/onnx").mkdir(parents=True, exist_ok=True)
    (directory / "hf/onnx/model.onnx").touch()
    entries = {"optimum": {"reason": "45 of 50 alike", "verdict": verdict, **entry}}
    given = {"onnx-cpu-fp32": {"artifact": "", "bundle": artifact.digest(directory), "clients": entries}}
    clients.write(build / CLIENTS, given)
    return ["--release", str(build / "release"), "--promoted", str(build / "promoted.json")]


def test_a_bundle_that_a_required_client_answers_otherwise_is_not_promoted_and_its_neighbour_is(shipped, capsys):
    arguments = answered(shipped, "fail", n=50, top1_agreement=0.9)
    assert promote.main(arguments) == 1
    said = "1 bundle(s) are not promoted: 'onnx-cpu-fp32': optimum says fail: 45 of 50 alike; next: run `make clients`"
    assert said in capsys.readouterr().err
    assert released(shipped) == {"coreml-metal-fp16": 1}

    arguments = answered(shipped, "pass", n=50, top1_agreement=1.0)
    assert promote.main(arguments) == 0
    assert released(shipped) == dict.fromkeys(SHIPPED, 1)
    assert ask(shipped, "SELECT value FROM model_version_tags WHERE key = 'clients'") == ["optimum 50/50"]
    assert promote.main(arguments) == 0
    assert capsys.readouterr().out.endswith("MLflow: `released` stands where it should\n")


def test_answers_about_other_bytes_count_as_not_asked_and_conf_may_insist_on_asking(shipped, capsys):
    arguments = answered(shipped, "fail")
    manifest = shipped / "release/onnx-cpu-fp32/manifest.json"
    artifact.write_json(manifest, artifact.read_json(manifest) | {"facts": {"built": "again"}})
    assert promote.main(arguments) == 0
    artifact.write_json(shipped.parent / "params.yaml", {"clients": OPTIONAL | {"before_release": True}})
    assert promote.main(arguments) == 1
    assert "'onnx-cpu-fp32': optimum was not asked about this bundle" in capsys.readouterr().err
    answered(shipped, "not_measured")
    assert promote.main(arguments) == 1
    assert "optimum says not measured" in capsys.readouterr().err
