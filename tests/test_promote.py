"""The alias `released` stands on what lies in a bundle, and nowhere else."""

import pytest
from test_track import VARIANTS, ask, build, collect, empty_database, here, tracked, write_variant  # noqa: F401

from stages import promote
from stages.core import artifact
from stages.lineage import recorded
from stages.tracking import place, record

SHIPPED = ("coreml-metal-fp16", "onnx-cpu-fp32")
pytestmark = pytest.mark.target


def bundle(build, key):  # noqa: F811
    """What the release writes of a variant, as far as promoting reads it."""
    chain = next(variant.chain for variant in collect(build).variants if variant.key == key)
    artifact.write_json(build / "release" / key / artifact.MANIFEST, {"parents": dict(chain)})


def released(build):  # noqa: F811
    rows = ask(build, "SELECT name, version FROM registered_model_aliases WHERE alias = 'released'")
    return {name.removeprefix("tinsmith."): version for name, version in rows}


@pytest.fixture
def shipped(tracked, monkeypatch):  # noqa: F811
    """The tracked build with its bundles, in the current directory."""
    monkeypatch.chdir(tracked.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for key in SHIPPED:
        bundle(tracked, key)
    return tracked


def test_released_moves_with_the_bundle_and_not_with_the_candidate(shipped, capsys):
    arguments = ["--release", str(shipped / "release"), "--promoted", str(shipped / "promoted.json")]
    assert promote.main(arguments) == 0
    assert capsys.readouterr().out == f"MLflow: released {', '.join(SHIPPED)}\n"
    assert released(shipped) == dict.fromkeys(SHIPPED, 1)

    assert place.released(shipped.parent / "mlruns/mlflow.db", "tinsmith", promote.chains(shipped / "release"))
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
    artifact.write_json(shipped / "tracked.json", recorded.take(where, fingerprint, [fingerprint]))
    promote.run(shipped / "release", shipped / "promoted.json")
    assert any("byte for byte" in note for link in recorded.compare_build(shipped) for note in link.notes)
    with database.open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last[0] ^ 1]))
    assert not any("byte for byte" in note for link in recorded.compare_build(shipped) for note in link.notes)


def test_a_bundle_that_no_version_was_tracked_of_moves_nothing(shipped):
    artifact.write_json(
        shipped / "release/onnx-cpu-fp32/manifest.json", {"parents": dict.fromkeys(record.CHAIN, "f" * 64)}
    )
    promote.main(["--release", str(shipped / "release"), "--promoted", str(shipped / "promoted.json")])
    assert released(shipped) == {"coreml-metal-fp16": 1}
