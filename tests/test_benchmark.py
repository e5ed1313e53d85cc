"""The benchmark writes every number that a verdict asks of it, with its interval, its sample and what ran."""

import shutil

import numpy as np
import pytest

from stages import benchmark
from stages.core import artifact
from stages.core.closure import ROOT
from stages.core.errors import ArtifactError
from stages.gating.soundness import Flat, sift
from stages.measure.registry import REGISTRY
from stages.running import local
from stages.running.timing import TURNS
from stages.schema.gate import Baseline, Benchmark
from stages.targets import executing
from stages.targets.base import SIGNATURE, Signature
from stages.tasks.base import PAST, Call, Tensor, encoder
from stages.tasks.facts import facts
from tests.targets.running import sign
from tests.toys.graphs import averaging

pytestmark = pytest.mark.target
REPETITIONS = 12
SETTINGS = benchmark.Params(
    baseline=None,
    benchmark=Benchmark(threads=1, warmup=1, repetitions=REPETITIONS, utterances=2, confidence=0.95),
)


@pytest.fixture
def places(tmp_path):
    ones = np.ones((2, 4), np.int32)
    with artifact.writing(tmp_path / "artifact", stage="quantize", parents={}) as out:
        (out / "model.onnx").write_bytes(averaging())
        sign(out, 4, dynamic=True)
    with artifact.writing(tmp_path / "reference", stage="reference", parents={}) as out:
        artifact.write_arrays(out / "probe.npz", {"input_ids": ones, "attention_mask": ones})
    with artifact.writing(tmp_path / "checkpoint", stage="compress", parents={}) as out:
        artifact.write_json(out / "profile.json", {"parameters": 12, "macs": 48})
    artifact.write_json(tmp_path / "host.json", local.fingerprint())
    return tmp_path


def benchmarked(places, baseline=None):
    names = ("artifact", "reference", "checkpoint", "host.json", "out")
    settings = SETTINGS.model_copy(update={"baseline": baseline})
    benchmark.run(settings, "onnx-cpu", *(places / name for name in names))
    return artifact.read_json(places / "out/metrics.json")


def test_a_benchmark_has_every_number_that_is_asked_of_it_and_none_that_nobody_knows(places):
    found = benchmarked(places)
    values = {name: value for name, value in found["values"].items() if name != "n"}
    kept, unsound = sift(Flat(values, found["intervals"], found["counts"]))
    assert unsound == []
    assert set(kept.values) == set(kept.counts)
    others = {*facts("generate").SPEEDS}
    assert {name for name, metric in REGISTRY.items() if metric.sample.when == "timed"} - others <= set(values)
    assert not others & set(values)
    assert values["size_bytes"] == (places / "artifact/model.onnx").stat().st_size
    assert (values["parameters"], values["macs"]) == (12, 48)


def test_a_latency_rests_on_its_runs_and_a_size_on_one_artifact(places):
    counts = benchmarked(places)["counts"]
    assert counts["latency_p50_ms"] == counts["latency_full_p99_ms"] == REPETITIONS
    assert counts["size_bytes"] == counts["load_time_ms"] == 1


def test_the_process_that_was_timed_says_what_it_ran_on(places):
    locked = executing.pins(ROOT / "constraints.txt")
    assert benchmarked(places)["runtime_versions"] == {"onnxruntime": locked["onnxruntime"]}


def released(places, host, latency):
    """A release of the same artifact, as a build before there were tasks recorded it on some host."""
    place, parents = places / "released", {"data": places / "reference"}
    with (
        artifact.writing(place, stage="release", parents={}) as out,
        artifact.writing(out / "artifact", stage="release", parents=parents) as bundle,
    ):
        for path in (places / "artifact").iterdir():
            if path.name != artifact.MANIFEST:
                shutil.copy(path, bundle)
        first = {"inputs": ["input_ids", "attention_mask"], "outputs": ["logits"], "sequence_lengths": [4]}
        artifact.write_json(bundle / SIGNATURE, {**first, "dynamic": True, "pad_token_id": 0})
        artifact.write_json(bundle / "verdict.json", {"host": host, "metrics": {"latency_p50_ms": latency}})
        artifact.write_arrays(bundle / "golden.npz", {})
    bounds = {"size_ratio": 2, "accuracy_drop": 0, "agreement_drop": 0, "latency_ratio": 1.1}
    return Baseline(bundles=str(place), **bounds)


@pytest.mark.parametrize(
    ("host", "latency", "timed"), [({"cpu_model": "Another"}, 1e9, True), ({}, 1e-9, True), ({}, 1e9, False)]
)
def test_a_release_is_timed_beside_where_its_record_leaves_a_doubt(host, latency, timed, places):
    ratios = benchmarked(places, released(places, local.fingerprint() | host, latency))["ratios_to_release"]
    assert len(ratios) == (TURNS if timed else 0)
    assert all(0.01 < ratio < 100 for ratio in ratios)  # of one artifact to itself
    assert benchmarked(places)["ratios_to_release"] == []


def test_an_altered_release_stops_the_benchmark_and_fails_no_variant(places):
    baseline = released(places, {"cpu_model": "Another"}, 1.0)
    (places / "released/artifact/verdict.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not what its stage wrote"):
        benchmarked(places, baseline)
    assert not (places / "out").exists()


def test_an_artifact_that_cannot_be_opened_is_a_failed_benchmark_that_still_has_its_size(places):
    (places / "artifact/model.onnx").write_bytes(b"no model")
    found = benchmarked(places)
    assert (found["status"], found["values"]["size_bytes"]) == ("failed", 8)
    assert "cannot be run" in found["reason"]


def test_speeds_are_tokens_over_the_median_and_their_intervals_turn_round():
    samples = {"prefill": np.linspace(9, 11, 21), "decode": np.full(9, 0.5)}
    wanted = {"time_to_first_token_ms": "prefill", "prefill_tokens_per_s": "prefill", "decode_tokens_per_s": "decode"}
    values, intervals, counts = benchmark.speeds(samples, {"prefill": 100, "decode": 1}, wanted, 0.95)
    assert values == pytest.approx(
        {"time_to_first_token_ms": 10, "prefill_tokens_per_s": 1e4, "decode_tokens_per_s": 2e3}
    )
    assert intervals["prefill_tokens_per_s"][0] < 1e4 < intervals["prefill_tokens_per_s"][1]
    assert counts == {"time_to_first_token_ms": 21, "prefill_tokens_per_s": 21, "decode_tokens_per_s": 9}


def test_a_cache_is_what_all_states_keep_of_a_token():
    states = [Tensor(name=f"past_key_values.{at}", dtype="float32", axes=[1, 3, PAST, 64]) for at in range(4)]
    call = Call(name="decode", inputs=[], outputs=[], states=states)
    told = {"task": "generate", "sequence_lengths": [8], "dynamic": True, "tokens": {"pad": None}}
    signature = Signature.model_validate({**told, "calls": [call, call.model_copy(update={"states": []})]})
    assert benchmark.cache_bytes_per_token(signature) == {"cache_bytes_per_token": 4 * 3 * 64 * 4}
    assert benchmark.cache_bytes_per_token(signature.model_copy(update={"calls": [encoder()]})) == {}
