"""What parity and benchmark say of one sound artifact, to be changed by the tests of verdicts."""

from stages.core import params
from stages.gating import verdict
from stages.measure.registry import REGISTRY
from stages.schema.gate import Threshold
from stages.tasks import classify


def bound(metric, unit, min_n=10, **limits):
    return params.parse(Threshold, {"metric": metric, "unit": unit, "min_n": min_n, **limits}, "gate")


AGREEMENT = bound("top1_agreement", "fraction", at_least=0.97)
ERROR = bound("max_abs_error", "logit", at_most=0.1)
HOST = {"cpu_isa": "avx2", "machine": "x86_64"}
PARTS = ("conversion", "coverage", "form")
GOOD = {"top1_agreement": 0.99, "max_abs_error": 0.05, "non_finite_count": 0, "n": 2000}


def sample(when):
    """Every metric that must be there of a classifier, at its best, with an interval where it has one."""
    found = {
        name: metric
        for name, metric in REGISTRY.items()
        if metric.sample.when == when and (metric.group != "quality" or name in classify.PRIMARY)
    }
    values = {name: 1 if metric.positive or metric.better == "higher" else 0 for name, metric in found.items()}
    intervals = {name: [values[name], values[name]] for name, metric in found.items() if metric.interval}
    return {"values": values, "intervals": intervals, "counts": dict.fromkeys(values, 2000)}


def parity(**changes):
    """What parity says of a sound artifact, part by part."""
    test = sample("executed")
    for name in [name for name in test["values"] if name.split("_")[0] in PARTS]:
        del test["values"][name], test["counts"][name]
    test["values"] |= GOOD
    split = {"values": {k: v for k, v in test["values"].items() if not k.startswith("accuracy")}, "intervals": {}}
    return {
        "status": "measured",
        "reason": "",
        "altered": [],
        "runtime": "onnxruntime-cpu",
        "runtime_versions": {"onnxruntime": "1.32.0"},
        "weights": sample("read"),
        "conversion": {"values": {"conversion_relative_max_error": 0}, "counts": {"conversion_relative_max_error": 64}},
        "form": {"values": {"form_relative_error": 0}, "counts": {"form_relative_error": 16}},
        "probe": split,
        "test": test,
        "coverage": split,
    } | changes


def benchmark(**changes):
    timed, extent = sample("timed"), {"size_bytes": 10, "parameters": 10, "macs": 10}
    return {
        "status": "measured",
        "values": timed["values"] | extent,
        "intervals": timed["intervals"],
        "counts": timed["counts"] | dict.fromkeys(extent, 1),
        "host": HOST,
        "runtime_versions": {"onnxruntime": "1.32.0"},
    } | changes


def reasons(found_by_parity=None, timed=None, thresholds=(AGREEMENT, ERROR)):
    flat = verdict.flatten(found_by_parity or parity(), timed or benchmark(), HOST, classify)
    return verdict.judge(flat, thresholds, 1000, []).reasons
