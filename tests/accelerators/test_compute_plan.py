"""Tests of `accelerators/compute_plan.py`: what is made of Core ML's own plan, of which this host has none."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from stages.accelerators import compute_plan
from stages.accelerators.covering import told
from stages.targets.coreml_metal import toolchain
from stages.targets.coreml_metal.runtime import coreml_unavailable
from tests.toys.operators import GRAPHS


def test_where_there_is_no_core_ml_nobody_is_asked(tmp_path):
    if coreml_unavailable() is None:
        pytest.skip("this host has Core ML")
    assert compute_plan.planned(tmp_path / "nothing.mlpackage") == {}


def test_a_plan_says_for_each_result_which_processors_could_compute_it():
    models = toolchain.load().models
    structure, devices = models.compute_plan, models.compute_device
    cpu, engine = (object.__new__(kind) for kind in (devices.MLCPUComputeDevice, devices.MLNeuralEngineComputeDevice))
    usages = {
        "weight": None,
        "linear_0": structure.MLComputePlanDeviceUsage(engine, [cpu, engine]),
        "gather_0": structure.MLComputePlanDeviceUsage(cpu, [cpu]),
    }
    value = structure.MLModelStructureProgramNamedValueType
    operations = [
        structure.MLModelStructureProgramOperation({}, "any", [value(name, None)], [], None) for name in usages
    ]
    block = structure.MLModelStructureProgramBlock([], operations, [])
    program = structure.MLModelStructureProgram({"main": structure.MLModelStructureProgramFunction([], block)})
    plan = SimpleNamespace(
        model_structure=structure.MLModelStructure(None, program, None),
        get_compute_device_usage_for_mlprogram_operation=lambda operation: usages[operation.outputs[0].name],
    )
    assert compute_plan.read(plan) == {"linear_0": {"coreml_cpu", "neural_engine"}, "gather_0": {"coreml_cpu"}}


def test_a_plan_is_believed_and_rules_say_what_it_leaves_out():
    graph = GRAPHS["coreml-metal"]
    first, *others = graph.operators
    planned = replace(first, options={**first.options, "planned": frozenset({"coreml_cpu"})})
    taken = told("coreml-metal", [replace(graph, operators=(planned, *others), planned=compute_plan.SOURCE)])
    engine = taken["accelerators"]["neural_engine"]
    assert (engine["basis"], engine["source"]) == ("measured", compute_plan.SOURCE)
    assert "the plan has other processors for it" in [one["reason"] for one in engine["refused"]]
    by_rules = told("coreml-metal", [graph])["accelerators"]["neural_engine"]
    assert by_rules["basis"] == "advisory"
    assert len(engine["refused"]) == len(by_rules["refused"]) + 1
