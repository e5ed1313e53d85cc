"""The review reads a build and adds to each verdict what only its neighbours, its host and a release can tell."""

import shutil

import numpy as np
import pytest

from stages.core import artifact
from stages.core.params import Section
from stages.gating.review import review
from stages.measure.items import arrays
from stages.measure.metrics import compare
from stages.schema.gate import Baseline
from stages.schema.variant import Dynamic, Float, Variant

HOST = {"cpu_isa": "avx2", "machine": "x86_64"}
PRECISIONS = {
    "fp32": Float(kind="float", bits=32),
    "int8": Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
}
VARIANTS = {
    precision: Variant(
        compression="none", target="onnx-cpu", precision=precision, required=True, release_not_measured=False
    )
    for precision in PRECISIONS
}
LABELS, ITEMS = 3, 60


def entry(precision, size, latency):
    return {
        "compression": "none",
        "host": HOST,
        "intervals": {"latency_p50_ms": [latency, latency], "accuracy": [0.9, 1.0], "top1_agreement": [0.9, 1.0]},
        "metrics": {"size_bytes": size, "latency_p50_ms": latency, "accuracy": 1.0, "top1_agreement": 1.0},
        "precision": precision,
        "reasons": [],
        "runtime": "onnxruntime-cpu",
        "target": "onnx-cpu",
        "verdict": "pass",
    }


ENTRIES = {"fp32": entry("fp32", 1e6, 1.0), "int8": entry("int8", 2e6, 2.0)}


class Prepared(Section):
    task: dict[str, str]


@pytest.fixture
def build(tmp_path):
    artifact.write_json(tmp_path / "host.json", HOST)
    task = Prepared(task={"name": "classify"})
    with artifact.writing(tmp_path / "data", stage="prepare", parents={}, params=task):
        pass
    labels = np.arange(ITEMS) % LABELS
    inputs = {name: np.ones((2, 4), np.int32) for name in ("input_ids", "attention_mask")}
    with artifact.writing(tmp_path / "reference/none", stage="reference", parents={}) as out:
        artifact.write_arrays(out / "probe.npz", inputs)
    for key in VARIANTS:
        with artifact.writing(tmp_path / "artifact" / key, stage="quantize", parents={}) as out:
            artifact.write_json(out / "model.json", key)
        with artifact.writing(tmp_path / "parity" / key, stage="parity", parents={}) as out:
            logits = np.eye(LABELS, dtype=np.float32)[labels]
            record = compare(logits, [logits], np.arange(ITEMS, dtype=np.int32), labels).record
            artifact.write_arrays(out / "items.npz", arrays({"test": record}))
            counted = {"clipped": 96, "sums": 128} if key == "int8" else {"clipped": 0, "sums": 0}
            measured = {"numerics": "as told" if key == "fp32" else "", "saturation": counted}
            artifact.write_json(out / "metrics.json", measured)
        with artifact.writing(tmp_path / "benchmark" / key, stage="benchmark", parents={}) as out:
            artifact.write_json(out / "metrics.json", {"ratios_to_release": [1.5] * 5})
    return tmp_path


def release(build, size, latency=2.0):
    """Write a release of both variants whose int8 had another size or latency, with right answers to all."""
    with artifact.writing(build / "released", stage="release", parents={}) as out:
        for key, judged in ENTRIES.items():
            with artifact.writing(out / key, stage="release", parents={"data": build / "data"}) as bundle:
                metrics = judged["metrics"] | ({"size_bytes": size, "latency_p50_ms": latency} if key == "int8" else {})
                artifact.write_json(bundle / "verdict.json", judged | {"metrics": metrics})
                artifact.write_arrays(bundle / "golden.npz", {"test_answers": np.arange(ITEMS) % LABELS})
    return Baseline(
        bundles=str(build / "released"), size_ratio=1.1, accuracy_drop=0, agreement_drop=0, latency_ratio=1.1
    )


def test_neighbours_and_hosts_add_to_a_verdict_and_change_none(build):
    reviewed = review(ENTRIES, VARIANTS, PRECISIONS, None, build)
    assert [found["verdict"] for found in reviewed.values()] == ["pass", "pass"]
    assert reviewed["fp32"]["dominated"] == ""
    assert reviewed["int8"]["dominated"].startswith("no better than 'fp32' on any axis measured here: 2.00 MB")
    assert reviewed["fp32"]["notes"] == ["as told"]
    assert "saturates int8 weights, 96 of 128 16-bit sums" in reviewed["int8"]["notes"][0]


def test_a_fall_behind_the_release_fails_that_variant_alone(build):
    reviewed = review(ENTRIES, VARIANTS, PRECISIONS, release(build, 1e6), build)
    assert reviewed["fp32"]["verdict"] == "pass"
    assert reviewed["int8"]["verdict"] == "fail"
    assert "size 1 → 2 MB, 2 times, at most 1.1" in reviewed["int8"]["reasons"][0]
    assert ENTRIES["int8"]["reasons"] == []


def test_what_the_benchmark_timed_beside_the_release_counts(build):
    reviewed = review(ENTRIES, VARIANTS, PRECISIONS, release(build, 2e6, latency=1.0), build)
    assert [found["verdict"] for found in reviewed.values()] == ["pass", "fail"]
    assert "p50 latency 1.5 to 1.5 times, timed 5 times in turns" in reviewed["int8"]["reasons"][0]


def test_a_release_without_the_variant_is_a_note_and_no_fault(build):
    baseline = release(build, 2e6)
    with artifact.writing(build / "fewer", stage="release", parents={}) as out:
        shutil.copytree(build / "released/fp32", out / "fp32")
    fewer = baseline.model_copy(update={"bundles": str(build / "fewer")})
    reviewed = review(ENTRIES, VARIANTS, PRECISIONS, fewer, build)
    assert reviewed["int8"]["verdict"] == "pass"
    assert "it has no bundle of this variant" in reviewed["int8"]["notes"][-1]
