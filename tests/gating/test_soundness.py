"""Whatever a verdict, a card or a table shows is registered, and a verdict without it is no pass."""

import re
from types import SimpleNamespace

import pytest

from stages.core.closure import ROOT
from stages.gating.soundness import Flat, absent, sift
from stages.measure.registry import REGISTRY
from stages.releasing.card import MEASURES
from stages.reporting.page import COSTS
from stages.tasks import classify
from stages.tasks.base import Primary

SHOWN = ("releasing/card.py", "lineage/bom.py", "summary.py", "tracking", "reporting", "sweeping")
NAMED = re.compile(
    r"""\bvalues\.(\w+)|(?:values|metrics)"?\]?\[["'](\w+)"""  # line.values.accuracy, verdict["metrics"]["accuracy"]
    r"""|(?:amount|rate|drop|number|best)\((?:lines?, )?["'](\w+)["']"""  # the cells of the tables
)
OTHERS = {"n", "size", "shape", "items", "get", "keys", "values"}
"""The size of the test split, and what Python's own things have."""


def shown_in(path):
    """Metrics that a file takes out of a verdict, by name."""
    text = path.read_text(encoding="utf-8")
    return {name for match in NAMED.findall(text) for name in match if name} - OTHERS


def files():
    for name in SHOWN:
        path = ROOT / "stages" / name
        found = [path] if path.is_file() else sorted((*path.glob("*.py"), *path.glob("*.j2")))
        assert found, name
        yield from found


def test_every_metric_that_a_table_takes_out_of_a_verdict_is_registered():
    found = {path.relative_to(ROOT / "stages").as_posix(): shown_in(path) for path in files()}
    assert {"latency_p50_ms", "size_bytes", "peak_rss_bytes"} <= found["reporting/page.html.j2"]
    assert {"top1_agreement", "size_bytes"} <= found["summary.py"] | found["tracking/wording.py"]
    unknown = {name: names - set(REGISTRY) for name, names in found.items() if names - set(REGISTRY)}
    assert unknown == {}


def test_every_metric_that_a_card_a_plot_or_a_table_shows_must_have_been_measured():
    shown = {*MEASURES, *(name for name, _, _ in COSTS)} | {name for path in files() for name in shown_in(path)}
    primary = classify.PRIMARY
    shown |= {primary.metric, primary.to_reference, primary.to_teacher}
    shown |= {f"{prefix}_p50_ms" for prefix in classify.LATENCIES.values()}
    missed = absent({"n": 1800}, classify, read=True, executed=True, timed=True)
    assert len(shown) > 10
    for name in shown - {"activation_bytes"}:  # shown of devices, where the format tells it
        assert f"{name} was not measured" in missed


def test_what_did_not_happen_is_not_asked_for():
    asked = absent({}, classify, read=False, executed=False, timed=False)
    assert "size_bytes was not measured" in asked
    assert not {reason for reason in asked if reason.startswith(("latency", "accuracy", "calibration", "weight"))}
    assert "accuracy was not measured" not in absent(
        {"non_finite_count": 3}, classify, read=True, executed=True, timed=False
    )


@pytest.mark.parametrize("n", [0, -1, 1.5, "1800", None, True])
def test_a_test_split_of_no_texts_is_unsound(n):
    kept, unsound = sift(Flat({"n": n}, {}, {}))
    assert (kept.values, unsound) == ({}, [f"the test split has {n!r} texts"])


def test_what_is_sound_is_kept_as_it_is():
    values = {"accuracy": 0.9, "size_bytes": 10, "n": 100}
    found = Flat(values, {"accuracy": [0.8, 0.95]}, {"accuracy": 100})
    assert sift(found) == (found, [])


def test_what_another_task_measures_is_not_missed():
    primary = Primary("perplexity", "accuracy", "perplexity_to_reference", "perplexity_to_teacher")
    other = SimpleNamespace(PRIMARY=primary, LATENCIES={"whole": "latency"}, SPEEDS={}, DEMO="")
    missed = absent({"n": 1800}, other, read=True, executed=True, timed=True)
    assert {f"{name} was not measured" for name in ("top1_agreement", "latency_p99_ms", "load_time_ms")} <= set(missed)
    assert not [line for line in missed if line.startswith(("accuracy", "latency_full"))]
