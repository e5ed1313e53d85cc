"""Every bundle's BOM is CycloneDX 1.6 to the letter, names its whole chain, and follows from the content alone."""

import dataclasses
import json
from importlib import metadata

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from stages.core import artifact
from stages.lineage import bom
from tests.toys import bundle as toy

STRICT = JsonStrictValidator(SchemaVersion.V1_6)
TASK = {"max_length": 32, "name": "classify", "sequence_lengths": [16, 32]}
TOOLS = {"numpy": metadata.version("numpy"), "torch": metadata.version("torch")}


def sha(letter):
    return letter * 64


def manifest(stage, files, params=None, tools=None):
    recorded = {name: {"sha256": digest, "size_bytes": 1} for name, digest in files.items()}
    return {"files": recorded, "params": params or {}, "parents": {}, "schema": 1, "stage": stage, "tools": tools or {}}


def verdict(**changes):
    return {
        "compression": "none",
        "dominated": "",
        "intervals": {"accuracy": [0.4, 0.6]},
        "metrics": {"accuracy": 0.5, "latency_p50_ms": 1.5, "n": 1800, "size_bytes": 1000},
        "notes": [],
        "precision": "fp32",
        "reasons": [],
        "runtime": "onnxruntime-cpu",
        "target": "onnx-cpu",
        "timing": "",
        "verdict": "pass",
        **changes,
    }


@pytest.fixture
def facts():
    data = {"kind": "clinc150", "licence": "CC-BY-3.0", "path": "../data"}
    weights = {"model.safetensors": sha("b")}
    manifests = {
        "artifact": manifest("quantize", {"model.onnx": sha("a")}, tools={"numpy": TOOLS["numpy"]}),
        "compressed": manifest("compress", weights, tools=TOOLS),
        "data": manifest(
            "prepare", {f"{name}.jsonl": sha(str(n)) for n, name in enumerate(bom.SPLITS)}, {"data": data, "task": TASK}
        ),
        "student": manifest("distill", weights, {"student": {"kind": "none"}}, TOOLS),
        "teacher": manifest(
            "teacher", weights, {"teacher": {"kind": "checkpoint", "path": "../given", "licence": "unknown"}}, TOOLS
        ),
    }
    score = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "n": 1800, "parameters": 100}
    return bom.Facts(
        "onnx-cpu-fp32",
        verdict(),
        manifests,
        digests={role: sha(letter) for role, letter in zip(manifests, "cdef9", strict=True)},
        files={"model.onnx": sha("a"), "tokenizer/tokenizer.json": sha("7")},
        counts=dict.fromkeys(bom.SPLITS, 10),
        architecture="BertForSequenceClassification",
        scores={"student": score, "teacher": score},
        licences={"numpy": "BSD-3-Clause AND MIT", "torch": "something of their own"},
        task="classify",
    )


def problem(tree):
    return STRICT.validate_str(json.dumps(tree))


UNMEASURED = {"intervals": {}, "metrics": {}, "runtime": None, "verdict": "not_measured"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {**UNMEASURED, "reasons": ["no runtime here"], "timing": "no runtime here"},
        {"runtime": "reference-interpreted", "metrics": {"accuracy": 0.5}, "timing": "Core ML runs on macOS only"},
        {"metrics": {"relative_max_error": 6.2e-06, "non_finite_count": 0}},
    ],
)
def test_it_is_valid_to_the_strict_schema_whatever_the_verdict(facts, changes):
    assert problem(bom.describe(dataclasses.replace(facts, verdict=verdict(**changes)))) is None


@pytest.mark.parametrize("licence", ["Apache-2.0", "apache-2.0 OR mit", "unknown", "© Someone, all rights reserved"])
def test_any_licence_a_person_writes_is_valid(facts, licence):
    facts.manifests["teacher"]["params"]["teacher"]["licence"] = licence
    facts.manifests["data"]["params"]["data"]["licence"] = licence
    assert problem(bom.describe(facts)) is None


def test_the_validator_would_refuse_what_is_wrong(facts):
    tree = bom.describe(facts)
    tree["metadata"]["component"]["modelCard"]["modelParameters"]["approach"]["type"] = "psychic"
    assert "psychic" in str(problem(tree))
    assert "stray" in str(problem(bom.describe(facts) | {"stray": 1}))


def test_every_file_split_ancestor_and_tool_is_named_with_its_digest_and_licence(facts):
    tree = bom.describe(facts)
    model = tree["metadata"]["component"]
    found = {part["name"]: part for part in tree["components"]}
    for name, digest in facts.files.items():
        assert found[name]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    for split in bom.SPLITS:
        part = found[f"clinc150.{split}"]
        assert part["hashes"][0]["content"] == facts.manifests["data"]["files"][f"{split}.jsonl"]["sha256"]
        assert part["licenses"] == [{"expression": "CC-BY-3.0"}]
        assert {"ref": part["bom-ref"]} in model["modelCard"]["modelParameters"]["datasets"]
    assert found["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert found["torch"]["licenses"] == [{"license": {"name": "something of their own"}}]
    assert found["torch"]["properties"] == [{"name": "tinsmith:stages", "value": "compress, distill, teacher"}]
    ancestors = {part["name"]: part for part in model["pedigree"]["ancestors"]}
    assert list(ancestors) == ["compressed", "student", "../given"]
    assert ancestors["../given"]["licenses"] == [{"license": {"name": "unknown"}}]
    assert ancestors["student"]["properties"] == [
        {"name": "tinsmith:manifest.sha256", "value": facts.digests["student"]}
    ]


def test_the_card_has_every_metric_with_its_interval_and_the_limits(facts):
    card = bom.describe(facts)["metadata"]["component"]["modelCard"]
    metrics = {entry["type"]: entry for entry in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert {name: float(entry["value"]) for name, entry in metrics.items()} == facts.verdict["metrics"]
    assert metrics["accuracy"]["confidenceInterval"] == {"lowerBound": "0.4", "upperBound": "0.6"}
    assert metrics["accuracy"]["slice"] == "test split"
    assert "Texts longer than 32 tokens are cut." in card["considerations"]["technicalLimitations"]


def test_an_interpreted_artifact_says_so_among_its_limits(facts):
    changed = verdict(runtime="reference-interpreted", metrics={"accuracy": 0.5}, timing="Core ML runs on macOS only")
    card = bom.describe(dataclasses.replace(facts, verdict=changed))["metadata"]["component"]["modelCard"]
    assert any("Not run by Core ML" in limit for limit in card["considerations"]["technicalLimitations"])


def test_what_else_is_to_be_known_stands_in_the_card(facts):
    changed = verdict(dominated="no better than 'onnx-cpu-fp32' on any axis", notes=["sums may clip without VNNI"])
    considered = bom.describe(dataclasses.replace(facts, verdict=changed))["metadata"]["component"]["modelCard"]
    assert "sums may clip without VNNI" in considered["considerations"]["technicalLimitations"]
    assert "no better than 'onnx-cpu-fp32' on any axis" in considered["considerations"]["performanceTradeoffs"]


def test_equal_facts_give_equal_bytes_and_any_change_another_serial_number(facts):
    serial = bom.describe(facts)["serialNumber"]
    assert bom.describe(facts)["serialNumber"] == serial
    changed = dataclasses.replace(facts, files={**facts.files, "model.onnx": sha("8")})
    assert bom.describe(changed)["serialNumber"] != serial


def test_it_is_gathered_from_a_build_and_names_what_lies_in_the_bundle(facts, tmp_path):
    places = {role: tmp_path / "build" / role for role in facts.manifests}
    for role, place in places.items():
        artifact.write_json(place / artifact.MANIFEST, facts.manifests[role])
    artifact.write_json(places["data"] / "summary.json", {"counts": facts.counts})
    (places["artifact"] / "signature.json").write_bytes(toy.signature())
    artifact.write_json(places["compressed"] / "config.json", {"architectures": [facts.architecture]})
    for role, score in facts.scores.items():
        artifact.write_json(places[role] / "evaluation.json", score)
    artifact.write_json(tmp_path / "bundle" / "tokenizer" / "tokenizer.json", {})
    bom.write(tmp_path / "bundle", facts.key, facts.verdict, places)
    tree = artifact.read_json(tmp_path / "bundle" / bom.BOM)
    assert problem(tree) is None
    files = {part["name"]: part["hashes"][0]["content"] for part in tree["components"] if part["type"] == "file"}
    assert files == {"tokenizer/tokenizer.json": artifact.sha256(tmp_path / "bundle/tokenizer/tokenizer.json")}
    assert {part["name"] for part in tree["components"] if part["type"] == "library" and "licenses" in part} == set(
        TOOLS
    )
