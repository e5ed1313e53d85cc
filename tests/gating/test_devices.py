"""Tests of `gating/devices.py`, `schema/device.py` and conf/device: who can have a variant, and by what."""

import re

import pytest
import yaml

from stages.accelerators.covering import of_target, told
from stages.accelerators.graph import Graph
from stages.asking.answers import everyone
from stages.core import params
from stages.core.closure import ROOT
from stages.core.errors import ConfigError
from stages.gating.devices import fits, unfit, unserved
from stages.schema.device import Device
from tests.toys.operators import op, tensor, weight

FILES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "conf/device").glob("*.yaml")}
DEVICES = {name: params.parse(Device, tree, f"devices.{name}") for name, tree in FILES.items()}
SMALL = {"size_bytes": 4e5, "activation_bytes": 1e5}


def tflite(*operators):
    return told("tflite-nnapi", [Graph("g", operators)])


def chosen(*names):
    return {name: DEVICES[name] for name in names}


WHOLE = tflite(op("FULLY_CONNECTED", tensor("x"), weight(), macs=64))
HYBRID = tflite(op("FULLY_CONNECTED", tensor("x"), weight(dtype="INT8", scales=8), macs=64))


def test_an_artifact_runs_by_the_first_accelerator_that_takes_enough_and_the_ones_before_say_why_not():
    (whole,) = fits(chosen("android-12"), "tflite-nnapi", WHOLE, SMALL).values()
    assert (whole["accelerator"], whole["macs"], whole["partitions"], whole["reasons"]) == ("nnapi_fl6", 1, 1, [])
    (hybrid,) = fits(chosen("android-12"), "tflite-nnapi", HYBRID, SMALL).values()
    assert (hybrid["accelerator"], hybrid["reasons"]) == ("litert_xnnpack", [])
    (said,) = hybrid["beside"]
    assert said.startswith("nnapi_fl6 takes 0 % of multiply-accumulates, 95 % asked (FULLY_CONNECTED: a float input")


def test_where_nothing_else_executes_what_is_refused_every_operator_is_asked_for():
    gelu = tflite(op("FULLY_CONNECTED", tensor("x"), weight(), macs=64), op("GELU", tensor("y"), out="z"))
    (micro,) = fits(chosen("microcontroller"), "tflite-nnapi", gelu, SMALL).values()
    assert micro["accelerator"] == ""
    assert micro["reasons"] == [
        "tflite_micro takes 50 % of operators, 100 % asked (GELU: the interpreter registers no such operator)"
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (SMALL | {"size_bytes": 2e6}, "size_bytes 2,000,000 > 1,000,000 byte"),
        (SMALL | {"activation_bytes": 6e5}, "activation_bytes 600,000 > 500,000 byte"),
        ({"size_bytes": 4e5}, "activation_bytes was not measured"),
    ],
)
def test_a_budget_that_is_broken_or_of_which_nothing_is_known_is_not_kept(values, reason):
    (micro,) = fits(chosen("microcontroller"), "tflite-nnapi", WHOLE, values).values()
    assert (micro["accelerator"], micro["reasons"]) == ("tflite_micro", [reason])


def test_a_program_for_a_later_ios_does_not_fit_the_earlier_one():
    covered = told("coreml-metal", [Graph("g", (op("linear", tensor("x", "fp16"), weight(dtype="fp16"), macs=8),))])
    said = fits(DEVICES, "coreml-metal", covered, {"size_bytes": 4e5, "ios_version_min": 18})
    assert {name: fit["reasons"] for name, fit in said.items()} == {
        "iphone-ios17": ["ios_version_min 18 > 17"],
        "iphone-ios18": [],
    }


def test_what_fits_one_device_is_no_fault_and_what_fits_none_says_each_reason_in_one_line():
    values = SMALL | {"size_bytes": 2e6}
    assert unfit(fits(chosen("microcontroller", "raspberry-pi"), "tflite-nnapi", WHOLE, values)) == []
    (line,) = unfit(fits(chosen("microcontroller"), "tflite-nnapi", WHOLE, values))
    assert line == "it fits none of the devices chosen for it (microcontroller: size_bytes 2,000,000 > 1,000,000 byte)"
    assert unfit({}) == []


def test_a_variant_that_no_chosen_device_runs_is_named_and_not_failed():
    assert fits(chosen("iphone-ios18"), "onnx-cpu", WHOLE, SMALL) == {}
    assert unserved(chosen("iphone-ios18"), "onnx-cpu") == ["judged for no device: none of iphone-ios18 runs onnx-cpu"]
    assert unserved(chosen("iphone-ios18", "raspberry-pi"), "onnx-cpu") == unserved({}, "onnx-cpu") == []


def test_where_coverage_could_not_be_told_nothing_fits():
    failed = {"status": "failed", "reason": "the file is damaged", "target": "tflite-nnapi"}
    (fit,) = fits(chosen("raspberry-pi"), "tflite-nnapi", failed, SMALL).values()
    assert fit["reasons"] == ["what accelerators take is not known: the file is damaged"]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_of_conf_names_accelerators_of_its_targets_and_clients_that_there_are(name):
    known = {client.name for client in everyone()}
    for target, serves in DEVICES[name].targets.items():
        assert {asked.name for asked in serves.accelerators} <= {one.name for one in of_target(target).ACCELERATORS}
        assert set(serves.clients) <= known


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"budgets": [{"metric": "latency_p50_ms", "unit": "ms", "at_most": 5.0}]}, "says nothing of a device"),
        ({"budgets": [{"metric": "peak_rss_bytes", "unit": "byte", "at_most": 5.0}]}, "bound size_bytes"),
        ({"budgets": [{"metric": "size_bytes", "unit": "MB", "at_most": 5.0}]}, "is measured in 'byte'"),
        ({"targets": {}}, "at least 1"),
        ({"targets": {"toaster": FILES["raspberry-pi"]["targets"]["onnx-cpu"]}}, "toaster"),
        ({"prefer": "speed"}, "'speed' is no metric"),
        ({"targets": {"onnx-cpu": {"accelerators": [{"name": "gpu", "macs": 1.0, "operators": 1.0, "parts": 1}],
                                   "clients": []}}}, "'gpu' is no accelerator"),
    ],
)  # fmt: skip
def test_a_device_that_asks_for_what_nobody_can_tell_is_refused(change, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        params.parse(Device, FILES["raspberry-pi"] | change, "devices.raspberry-pi")


def test_no_stage_but_the_gate_reads_devices_so_that_choosing_one_rebuilds_no_artifact():
    found = []
    for file in ("dvc.yaml", "clone/dvc.yaml"):
        for name, stage in yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["stages"].items():
            keys = stage.get("do", stage).get("params", [])
            found += [name for key in keys if isinstance(key, str) and key.startswith("devices")]
    assert found == ["gate"]
