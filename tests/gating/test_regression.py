"""A variant that fell behind a release fails by name; noise, another host and missing bundles do not fool it."""

from pathlib import Path

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.gating.regression import Released, may_be_slower, read_released, regressions, slowdown
from stages.measure.metrics import compare as compare_logits
from stages.measure.statistics import proportion_interval
from stages.schema.gate import Baseline

N = 1000
LABELS = np.arange(N) % 7
HOST = {"cpu_model": "Example", "cores": 2}
BOUNDS = Baseline(bundles="released", size_ratio=1.02, accuracy_drop=0.005, agreement_drop=0.005, latency_ratio=1.1)


def answers(wrong):
    given = LABELS.copy()
    given[:wrong] += 1
    return given


def answered(given):
    """What an artifact answered that gave these classes."""
    logits = np.eye(9, dtype=np.float32)[given]
    return compare_logits(logits, [logits], np.arange(N, dtype=np.int32), LABELS).record


def entry(wrong=50, size=1e6, agreement=0.99, latency=1.0, **changes):
    values = {"accuracy": 1 - wrong / N, "top1_agreement": agreement}
    intervals = {name: list(proportion_interval(round(value * N), N)) for name, value in values.items()}
    return {"metrics": values | {"size_bytes": size, "latency_p50_ms": latency}, "intervals": intervals,
            "host": HOST} | changes  # fmt: skip


def released(wrong=50, data="same", **changes):
    return Released(Path("released/v"), entry(wrong, **changes), data, answers(wrong))


def compare(old, wrong=50, **changes):
    return regressions(old, entry(wrong, **changes), BOUNDS, "same", answered(answers(wrong)))


def test_the_same_build_is_no_regression():
    assert compare(released()) == []


def test_growth_beyond_the_bound_is_named_with_both_sizes():
    assert compare(released(), size=1.02e6) == []
    assert compare(released(), size=1.5e6) == [
        "regression against 'released/v': size 1 → 1.5 MB, 1.5 times, at most 1.02"
    ]


def test_a_size_that_is_not_known_is_no_growth_and_no_traceback():
    unknown = entry(metrics={"accuracy": 0.95, "top1_agreement": 0.99})
    assert regressions(released(), unknown, BOUNDS, "same", answered(answers(50))) == []


def test_answers_are_paired_where_the_data_is_the_same():
    # 12 more wrong of 1,000 is within the noise of two independent rates, and not of the same utterances.
    (reason,) = compare(released(wrong=50), wrong=62)
    assert "accuracy 0.9500 → 0.9380, 0.0120 less [0.00" in reason
    assert "on the same 1000 utterances, at most 0.005" in reason
    assert compare(released(wrong=50, data="other"), wrong=62) == []


def test_other_data_needs_intervals_that_are_apart():
    (reason,) = compare(released(wrong=50, data="other"), wrong=150)
    assert "accuracy 0.9500 → 0.8500, intervals apart" in reason


def test_a_drop_within_the_bound_or_within_noise_is_no_regression():
    assert compare(released(wrong=50), wrong=54) == []
    old = released()
    swapped = LABELS.copy()
    swapped[100:156] += 1  # 56 wrong, others than before: 6 more than 50 by luck
    assert regressions(old, entry(56), BOUNDS, "same", answered(swapped)) == []


def test_agreement_that_fell_is_named():
    (reason,) = compare(released(), agreement=0.9)
    assert "top1_agreement 0.9900 → 0.9000, intervals apart, at most 0.005 less" in reason


def test_what_was_not_run_is_compared_by_size_alone():
    unmeasured = {"metrics": {"size_bytes": 2e6}, "intervals": {}}
    (reason,) = regressions(released(), unmeasured, BOUNDS, "same", None)
    assert "size 1 → 2 MB" in reason


def timed(latency):
    return entry(latency=latency)["metrics"]


def test_a_latency_within_the_bound_on_the_same_host_needs_no_timing():
    assert not may_be_slower(released(), timed(1.09), BOUNDS, HOST)
    assert not may_be_slower(released(), {}, BOUNDS, HOST)
    assert slowdown(released(), timed(1.09), BOUNDS, HOST, [2.0] * 5) == []


def test_a_slower_record_is_believed_only_when_every_turn_confirms_it():
    assert may_be_slower(released(), timed(1.5), BOUNDS, HOST)
    (reason,) = slowdown(released(), timed(1.5), BOUNDS, HOST, [1.4, 1.3, 1.2, 1.5, 1.11])
    assert "p50 latency 1.11 to 1.5 times, timed 5 times in turns, at most 1.1" in reason
    assert slowdown(released(), timed(1.5), BOUNDS, HOST, [1.4, 1.3, 1.2, 1.5, 1.05]) == []


def test_a_doubt_that_nobody_timed_is_no_pass():
    (reason,) = slowdown(released(), timed(1.5), BOUNDS, HOST, [])
    assert "did not time both in turns; run `dvc repro benchmark`" in reason


def test_a_release_timed_elsewhere_is_timed_again_here():
    elsewhere = {"cpu_model": "Another", "cores": 64}
    assert may_be_slower(released(), timed(0.1), BOUNDS, elsewhere)
    assert slowdown(released(), timed(0.1), BOUNDS, elsewhere, [2.0] * 5) != []
    assert slowdown(released(), timed(9.9), BOUNDS, elsewhere, [1.0] * 5) == []


@pytest.fixture
def bundles(tmp_path):
    with artifact.writing(tmp_path / "data", stage="prepare", parents={}):
        pass
    with artifact.writing(tmp_path / "released", stage="release", parents={}) as out:
        with artifact.writing(out / "v", stage="release", parents={"data": tmp_path / "data"}) as bundle:
            artifact.write_json(bundle / "verdict.json", entry())
            artifact.write_arrays(bundle / "golden.npz", {"test_answers": answers(50)})
        (out / "v" / "SHA256SUMS").write_text("written after the bundle's manifest", encoding="utf-8")
    return tmp_path / "released"


def test_a_bundle_is_read_with_its_answers_and_its_data(bundles):
    found = read_released(bundles, "v")
    assert found is not None
    assert found.entry == entry()
    assert found.data == artifact.digest(bundles.parent / "data")
    assert found.answers is not None
    assert found.answers.tolist() == answers(50).tolist()
    assert read_released(bundles, "unknown") is None


def test_an_altered_or_missing_release_is_refused(bundles):
    (bundles / "v" / "verdict.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not what its stage wrote: 'v/verdict.json' has sha256"):
        read_released(bundles, "v")
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        read_released(bundles / "nowhere", "v")


def test_sides_that_were_not_timed_are_not_compared():
    untimed = Released(Path("r"), {"metrics": {}, "intervals": {}, "host": HOST}, "d", None)
    assert not may_be_slower(untimed, entry()["metrics"], BOUNDS, HOST)
