"""Tests of `accelerators/{covering,partitions,graph}.py` and of the stage: shares, parts, reasons, broken artifacts."""

from dataclasses import replace

import pytest
import yaml

from stages import coverage
from stages.accelerators.covering import cover, of_target, told
from stages.accelerators.graph import Graph
from stages.accelerators.partitions import partitions
from stages.core import artifact, params
from stages.core.closure import ROOT
from stages.core.errors import ArtifactError
from stages.measure.registry import ACCELERATORS, REGISTRY, accelerated
from stages.schema.covered import read_coverage
from stages.schema.gate import Threshold
from tests.toys.operators import GRAPHS, coverage_of, op, tensor, weight


def chain(*kinds):
    """Operators each of which reads the one before."""
    return Graph("g", tuple(op(kind, tensor(f"t{at}"), out=f"t{at + 1}") for at, kind in enumerate(kinds)))


def test_a_graph_that_is_taken_whole_is_one_part_and_one_that_is_not_is_none():
    assert partitions(chain("A", "B"), [True, True]) == [[0, 1]]
    assert partitions(chain("A", "B"), [False, False]) == []


def test_a_refused_operator_between_taken_ones_makes_two_parts():
    assert partitions(chain("A", "B", "C"), [True, False, True]) == [[0], [2]]


def test_a_part_holds_all_that_needs_nothing_from_a_later_one_wherever_it_stands():
    branches = Graph(
        "g",
        (
            op("A", tensor("x"), out="a"),
            op("B", tensor("a"), out="b"),
            op("C", tensor("x"), out="c"),  # behind a refused one in the file, and needs nothing of it
            op("D", tensor("b"), tensor("c"), out="d"),
        ),
    )
    assert partitions(branches, [True, False, True, True]) == [[0, 2], [3]]


def test_a_state_that_is_written_and_read_again_is_read_after_the_write():
    state = Graph(
        "g",
        (
            op("read_state", tensor("cache"), out="before"),
            op("write_state", tensor("cache"), tensor("before"), out="cache"),
            op("read_state", tensor("cache"), out="after"),
        ),
    )
    assert partitions(state, [True, False, True]) == [[0], [2]]


def test_shares_are_of_the_call_that_fares_worst():
    good, bad = (
        Graph(name, (op("FULLY_CONNECTED", tensor("x"), weight(), macs=3), op(kind, tensor("y"), out="z", macs=1)))
        for name, kind in (("short", "TANH"), ("long", "GELU"))
    )
    taken = told("tflite-nnapi", [good, bad])["accelerators"]["nnapi_fl8"]
    assert (taken["macs"], taken["operators"], taken["partitions"]) == (0.75, 0.5, 1)
    assert [one["places"] for one in taken["refused"]] == [{"long": [1]}]


def test_a_doubt_counts_as_taken_and_not_as_sure():
    hybrid = Graph("g", (op("FULLY_CONNECTED", tensor("x"), weight(dtype="INT8", scales=1), macs=8, module="head"),))
    found = told("tflite-nnapi", [hybrid])
    taken = found["accelerators"]["nnapi_fl8"]
    assert (taken["macs"], taken["sure_macs"], taken["partitions"]) == (1, 0, 1)
    assert found["values"]["nnapi_fl8_macs"] == 0
    (refused,) = taken["refused"]
    assert (refused["doubt"], refused["modules"], refused["macs"]) == (True, ["head"], 1)


def test_activations_are_counted_where_most_are_alive_at_once_and_not_where_a_size_is_unknown():
    wide = tensor("wide", shape=(1, 100))
    graph = Graph(
        "g",
        (
            op("A", tensor("x"), weight(), out="wide", shape=(1, 100)),  # x 32 bytes, wide 400
            op("B", wide, out="narrow", dtype="INT8"),  # wide 400, narrow 8, x is dead
            op("C", tensor("narrow", "INT8"), out="y"),
        ),
    )
    assert told("tflite-nnapi", [chain("A"), graph])["values"]["activation_bytes"] == 432
    unknown = Graph("u", (op("A", tensor("x", shape=None)),))
    assert "activation_bytes" not in told("tflite-nnapi", [graph, unknown])["values"]


@pytest.mark.parametrize(("opset", "ios"), [("CoreML6", 16), ("CoreML7", 17), ("CoreML8", 18), ("Elsewhere", None)])
def test_a_core_ml_program_says_which_ios_opens_it(opset, ios):
    found = told("coreml-metal", [replace(GRAPHS["coreml-metal"], opset=opset)])
    assert found["values"].get("ios_version_min") == ios


def test_the_middle_of_a_feed_forward_layer_splits_the_graph_and_says_why():
    taken = coverage_of("tflite-nnapi")["accelerators"]["nnapi_fl8"]
    assert (taken["partitions"], taken["macs"]) == (2, 1)
    (refused,) = taken["refused"]
    assert (refused["operator"], refused["modules"]) == ("GELU", ["layer/0/act"])
    assert "1.702" in refused["cure"]


@pytest.mark.parametrize("target", GRAPHS)
def test_every_number_has_a_metric_and_every_metric_an_accelerator(target):
    found = coverage_of(target)
    names = [name for one in of_target(target).ACCELERATORS for name in accelerated(one.name)]
    needs = [name for name in found["values"] if name in ("activation_bytes", "ios_version_min")]
    assert list(found["values"]) == list(found["counts"]) == [*needs, *names]
    assert not [reason for name, value in found["values"].items() if (reason := REGISTRY[name].impossible(value))]


def test_accelerators_of_all_targets_are_those_of_the_registry_and_say_where_rules_come_from():
    known = [one for target in GRAPHS for one in of_target(target).ACCELERATORS]
    assert tuple(one.name for one in known) == ACCELERATORS
    assert all(one.title and one.source for one in known)


@pytest.mark.parametrize("target", GRAPHS)
def test_what_cannot_be_read_is_failed_with_its_reason_and_stops_nothing(tmp_path, target):
    with artifact.writing(tmp_path / "artifact", stage="quantize", parents={}):
        pass
    with pytest.raises(ArtifactError, match="next: "):
        cover(target, tmp_path / "artifact")
    arguments = ["--target", target, "--artifact", str(tmp_path / "artifact"), "--out", str(tmp_path / "out")]
    assert coverage.main(arguments) == 0
    found = read_coverage(tmp_path / "out")
    assert found["status"] == "failed"
    assert "next: " in found["reason"]


def test_every_bound_of_the_accelerated_gate_is_on_an_accelerator_of_its_target():
    gate = yaml.safe_load((ROOT / "conf/gate/accelerated.yaml").read_text(encoding="utf-8"))
    for target, bounds in gate["targets"].items():
        known = {metric for one in of_target(target).ACCELERATORS for metric in accelerated(one.name)}
        assert {params.parse(Threshold, bound, "gate").metric for bound in bounds} <= known
