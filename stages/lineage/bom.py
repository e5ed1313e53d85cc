"""A bundle's ML-BOM, CycloneDX 1.6: what the artifact is, what it came from, how good it is, and under which licences.

Everything stands in the manifests of the chain and in the verdict; there is no clock, and the serial number follows
from the content, so that equal chains give equal bytes. Written as plain JSON: cyclonedx-python-lib has no model card
and drops one it reads (the tests validate with it, strictly).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.releasing.forms import of_task
from stages.schema.verdict import Entry
from stages.targets.base import read_signature
from stages.targets.facts import NOT_RUN, executor
from stages.tasks.base import Primary
from stages.tasks.facts import facts as task_facts
from stages.tasks.facts import shown

BOM = "bom.cdx.json"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:tinsmith:bom:1")
SPLITS = ("train", "validation", "calibration", "probe", "test")
ANCESTORS = {"compressed": "checkpoint that was converted", "student": "distilled checkpoint", "teacher": "teacher"}
# Longest text taken for the name of a licence; what is longer is its wording.
LICENCE_LIMIT = 80

Json = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a bundle's BOM is made of.

    Attributes:
        key: the variant.
        verdict: its entry in `verdicts.json`.
        manifests: role → manifest of every stage output in the chain.
        digests: role → sha256 of that manifest.
        files: name → sha256 of what ships.
        counts: split → utterances.
        architecture: of the checkpoint, as transformers names it.
        scores: role → `evaluation.json`, of teacher and student.
        licences: tool → licence as its distribution states it, where it does.
        task: what the model is for.
    """

    key: str
    verdict: Entry
    manifests: Mapping[str, Json]
    digests: Mapping[str, str]
    files: Mapping[str, str]
    counts: Mapping[str, int]
    architecture: str
    scores: Mapping[str, Json]
    licences: Mapping[str, str]
    task: str


def write(bundle: Path, key: str, verdict: Entry, places: Mapping[str, Path]) -> None:
    """Write the BOM of a bundle whose other files are all there.

    Args:
        bundle: directory of what ships.
        key: the variant.
        verdict: its entry in `verdicts.json`.
        places: role → stage output of everything behind it.
    """
    paths = (path for path in sorted(bundle.rglob("*")) if path.is_file())
    facts = gather(key, verdict, places, {path.relative_to(bundle).as_posix(): artifact.sha256(path) for path in paths})
    licences = {tool: licence for tool in _tools(facts.manifests) if (licence := _stated_licence(tool))}
    artifact.write_json(bundle / BOM, describe(replace(facts, licences=licences)))


def gather(key: str, verdict: Entry, places: Mapping[str, Path], files: Mapping[str, str]) -> Facts:
    """Read what a BOM is made of; the tools' licences, which only their installation states, are left out.

    Args:
        key: the variant.
        verdict: its entry in `verdicts.json`.
        places: role → stage output of everything behind it.
        files: name → sha256 of what ships.
    """
    return Facts(
        key,
        verdict,
        {role: artifact.manifest(place) for role, place in places.items()},
        digests={role: artifact.digest(place) for role, place in places.items()},
        files=files,
        counts=artifact.read_json(places["data"] / "summary.json")["counts"],
        architecture=artifact.read_json(places["compressed"] / "config.json")["architectures"][0],
        scores={role: artifact.read_json(places[role] / "evaluation.json") for role in ("student", "teacher")},
        licences={},
        task=read_signature(places["artifact"]).task,
    )


def without_tools_licences(bom: Json) -> Json:
    """Return a BOM without what depends on where it was written, for comparison with another."""
    kept = [
        {name: value for name, value in part.items() if name != "licenses" or part["type"] != "library"}
        for part in bom["components"]
    ]
    return {name: value for name, value in bom.items() if name != "serialNumber"} | {"components": kept}


def describe(facts: Facts) -> Json:
    """Return the BOM as a JSON tree."""
    files, data, tools = _files(facts), _data(facts), _libraries(facts)
    model = _model(facts)
    bom: Json = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model, "tools": {"components": [{"name": "tinsmith", "type": "application"}]}},
        "components": [*files, *data, *tools],
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": [part["bom-ref"] for part in (*files, *data, *tools)]},
        ],
    }
    return {**bom, "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps(bom, sort_keys=True))}"}


def _model(facts: Facts) -> Json:
    verdict, version = facts.verdict, facts.digests["artifact"][:12]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{facts.key}@{version}",
        "name": facts.key,
        "version": version,
        "description": f"{verdict['compression']} × {verdict['target']} × {verdict['precision']}",
        "licenses": _licence(facts.manifests["teacher"]["params"]["teacher"]["licence"]),
        "modelCard": _card(facts),
        "pedigree": {
            "ancestors": [_ancestor(facts, role) for role in ANCESTORS],
            "notes": "Nearest first; every hash is in the bundle's lineage/, which `python -m stages.audit` walks.",
        },
        "properties": _properties(
            {
                "manifest.sha256": facts.digests["artifact"],
                "verdict": verdict["verdict"],
                "verdict.runtime": verdict["runtime"] or "none",
                **{f"verdict.runtime.{name}": version for name, version in verdict.get("runtime_versions", {}).items()},
            }
        ),
    }


def _card(facts: Facts) -> Json:
    verdict, words = facts.verdict, of_task(facts.task).WORDS
    max_length = facts.manifests["data"]["params"]["task"]["max_length"]
    inputs, outputs = words.interface(verdict["target"], max_length)
    return {
        "bom-ref": f"card:{facts.key}",
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": words.kind,
            "architectureFamily": "transformer",
            "modelArchitecture": facts.architecture,
            "datasets": [{"ref": _split_ref(facts, split)} for split in SPLITS],
            "inputs": [{"format": inputs}],
            "outputs": [{"format": outputs}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": name,
                    "value": repr(value),
                    "slice": _slice(name, task_facts(facts.task).PRIMARY),
                    **_interval(verdict["intervals"].get(name)),
                }
                for name, value in sorted(verdict["metrics"].items())
            ]
        },
        "considerations": {
            "performanceTradeoffs": _tradeoffs(facts),
            "technicalLimitations": _limitations(facts, max_length),
        },
    }


def _tradeoffs(facts: Facts) -> list[str]:
    metric = task_facts(facts.task).PRIMARY.metric
    scores = [_scored(role, score, metric, facts.task) for role, score in sorted(facts.scores.items())]
    return [*scores, facts.verdict["dominated"]] if facts.verdict["dominated"] else scores


def _scored(role: str, score: Json, metric: str, task: str) -> str:
    factor, _ = shown(metric)
    said = of_task(task).WORDS.score.format(value=factor * score[metric], n=score["n"])
    ends = " to ".join(f"{factor * end:.2f}" for end in score[f"{metric}_interval"])
    return f"The {role} has {score['parameters']} parameters and {said} (95 %: {ends})."


def _limitations(facts: Facts, max_length: int) -> list[str]:
    verdict = facts.verdict
    said = [
        f"Texts longer than {max_length} tokens are cut.",
        of_task(facts.task).WORDS.caution,
        "Quality is that on the test split named here, and says nothing of other texts or languages.",
        *verdict["reasons"],
        *verdict["notes"],
    ]
    if absent := executor(verdict["runtime"]).instead_of:
        said.append(f"Not run by {absent}: {NOT_RUN}.")
    if "latency_p50_ms" in verdict["metrics"]:
        said.append("Latency, load time and memory are those of one host (the benchmark's statement names it).")
    elif verdict["timing"]:
        said.append(f"No latency is known: {verdict['timing']}.")
    return said


def _slice(name: str, primary: Primary) -> str:
    if name in ("n", "top1_agreement", *primary):
        return "test split"
    if name.startswith(("latency", "load_time", "peak_rss")):
        return "benchmark host"
    return "artifact" if name in ("macs", "parameters", "size_bytes") else "probe and test splits"


def _interval(ends: list[float] | None) -> Json:
    return {} if ends is None else {"confidenceInterval": {"lowerBound": repr(ends[0]), "upperBound": repr(ends[1])}}


def _ancestor(facts: Facts, role: str) -> Json:
    manifest = facts.manifests[role]
    settings = manifest["params"].get(role, {})
    found = {
        "type": "machine-learning-model",
        "bom-ref": f"{role}:{facts.digests[role][:12]}",
        "name": str(settings.get("path", role)) if role == "teacher" else role,
        "version": facts.digests[role][:12],
        "description": ANCESTORS[role],
        "hashes": _hashes(manifest["files"]["model.safetensors"]["sha256"]),
        "properties": _properties({"manifest.sha256": facts.digests[role]}),
    }
    return found | ({"licenses": _licence(settings["licence"])} if "licence" in settings else {})


def _files(facts: Facts) -> list[Json]:
    return [
        {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": _hashes(sha)}
        for name, sha in sorted(facts.files.items())
    ]


def _data(facts: Facts) -> list[Json]:
    """Name every split with its digest, size and licence; none of its content."""
    manifest = facts.manifests["data"]
    settings = manifest["params"]["data"]
    return [
        {
            "type": "data",
            "bom-ref": _split_ref(facts, split),
            "name": f"{settings['kind']}.{split}",
            "version": manifest["files"][f"{split}.jsonl"]["sha256"][:12],
            "hashes": _hashes(manifest["files"][f"{split}.jsonl"]["sha256"]),
            "licenses": _licence(settings["licence"]),
            "data": [
                {
                    "type": "dataset",
                    "name": split,
                    "contents": {"properties": _properties({"utterances": str(facts.counts[split])})},
                }
            ],
        }
        for split in SPLITS
    ]


def _libraries(facts: Facts) -> list[Json]:
    """Name the tools that shaped the bytes; none of them ships."""
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{tool}@{version}",
            "purl": f"pkg:pypi/{tool}@{version.replace('+', '%2B')}",
            "name": tool,
            "version": version,
            "scope": "excluded",
            "properties": _properties({"stages": ", ".join(stages)}),
            **({"licenses": _licence(facts.licences[tool])} if tool in facts.licences else {}),
        }
        for tool, (version, stages) in sorted(_tools(facts.manifests).items())
    ]


def _tools(manifests: Mapping[str, Json]) -> dict[str, tuple[str, list[str]]]:
    """Return tool → version and the stages it shaped; one lock serves all stages, so versions do not differ."""
    found: dict[str, tuple[str, list[str]]] = {}
    for manifest in manifests.values():
        for tool, version in manifest["tools"].items():
            found.setdefault(tool, (version, []))[1].append(manifest["stage"])
    return {tool: (version, sorted(set(stages))) for tool, (version, stages) in found.items()}


def _split_ref(facts: Facts, split: str) -> str:
    return f"data:{split}@{facts.manifests['data']['files'][f'{split}.jsonl']['sha256'][:12]}"


def _hashes(sha256: str) -> list[Json]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(named: Mapping[str, str]) -> list[Json]:
    return [{"name": f"tinsmith:{name}", "value": value} for name, value in sorted(named.items())]


def _licence(stated: str) -> list[Json]:
    """Write an SPDX expression as one, anything else as a name."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return [{"expression": canonicalize_license_expression(stated)}]
    except InvalidLicenseExpression:
        return [{"license": {"name": stated}}]


def _stated_licence(tool: str) -> str:
    """Return the licence in a distribution's metadata: its expression, its name, or the classifier's."""
    stated = metadata.metadata(tool).json
    classifiers = stated.get("classifier", [])
    classified = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    short = (name for name in (stated.get("license"), *classified) if name and len(name) <= LICENCE_LIMIT)
    return str(stated.get("license_expression") or next(short, ""))
