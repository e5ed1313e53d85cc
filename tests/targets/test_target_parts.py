"""Every target has every part, and every part offers what `registry` and `facts` say it does."""

import inspect
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from stages import tasks
from stages.injecting import inject
from stages.injecting.tensor import Editor
from stages.measure.structure import Graph
from stages.releasing import forms
from stages.releasing.source import Source
from stages.releasing.tokenization import Tokenization
from stages.schema.release import Release
from stages.schema.task import Task
from stages.schema.variant import Precision, Target, TargetName
from stages.targets import facts, registry
from stages.targets.base import Inputs, Session

PACKAGES = sorted(path.parent.name for path in Path("stages/targets").glob("*/__init__.py"))
NAMES = {"Graph": Graph, "Inputs": Inputs, "Precision": Precision, "Release": Release, "Session": Session}
NAMES |= {"Source": Source, "Task": Task}
NAMES |= {"TargetForms": forms.TargetForms, "Tokenization": Tokenization}
"""What protocols name and do not import when they run."""
PARTS = {
    "convert": registry.Convert,
    "quantize": registry.Quantize,
    "runtime": registry.Runtimes,
    "weights": registry.Weights,
    "structure": registry.Structure,
    "whole": registry.Whole,
    "lookup": registry.Lookup,
    "intermediates": registry.Intermediates,
}


def members(protocol):
    return {name: item for name, item in vars(protocol).items() if inspect.isfunction(item) and name[0] != "_"}


def asked(function):
    """What a caller must give, and what it gets: name → type, without what has a default."""
    optional = {one.name for one in inspect.signature(function).parameters.values() if one.default is not one.empty}
    return {name: kind for name, kind in get_type_hints(function, localns=NAMES).items() if name not in optional}


def faults(module, protocol):
    """Say where a module, or a class, is not what a protocol asks."""
    set_later = getattr(module, "__annotations__", ())  # what a class declares it gives its objects
    found = [f"no {name}" for name in protocol.__annotations__ if not hasattr(module, name) and name not in set_later]
    for name, wanted in members(protocol).items():
        if not hasattr(module, name):
            found.append(f"no {name}")
            continue
        ours, theirs = asked(wanted), asked(getattr(module, name))
        if list(ours) != list(theirs):
            found.append(f"{name} has {list(theirs)}, not {list(ours)}")
        for key in ours.keys() & theirs.keys():
            if ours[key] is Session:  # whatever is one
                kinds = get_args(theirs[key]) or [theirs[key]]
                found += [fault for kind in kinds for fault in faults(kind, Session)]
            elif ours[key] not in (theirs[key], Any):
                found.append(f"{name} has {key} {theirs[key]}, not {ours[key]}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_part_of_a_target_offers_what_its_callers_use(package):
    modules = {part: import_module(f"stages.targets.{package}.{part}") for part in PARTS}
    assert {part: faults(modules[part], protocol) for part, protocol in PARTS.items()} == {part: [] for part in PARTS}
    assert faults(import_module(f"stages.targets.{package}"), facts.Facts) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_target_has_forms_and_can_be_damaged(package):
    assert faults(import_module(f"stages.releasing.{package}"), forms.TargetForms) == []
    assert faults(import_module(f"stages.injecting.{package}").ArtifactEditor, Editor) == []
    for task in tasks.names():
        assert faults(forms.of_task(task).of_target(package.replace("_", "-")), forms.TargetForms) == []


@pytest.mark.parametrize("task", tasks.names())
def test_every_task_says_what_its_bundles_hold_and_what_may_break(task):
    assert faults(forms.of_task(task), forms.TaskForms) == []
    assert faults(inject.of_task(task), inject.TaskFaults) == []


def test_the_registry_gives_out_exactly_the_parts():
    given = {name for name, item in vars(registry).items() if isinstance(item, partial)}
    assert given == set(PARTS)
    for part in PARTS:
        assert getattr(registry, part)("onnx-cpu").__name__ == f"stages.targets.onnx_cpu.{part}"


def test_a_part_that_offers_less_or_otherwise_is_found_out():
    def reach(value: list, granularity: str) -> np.ndarray: ...

    def open_runtime(artifact: Path, threads: int) -> ModuleType: ...

    assert faults(SimpleNamespace(FILES=[], strays=list), registry.Whole) == [
        "no CONVERTED",
        "strays has [], not ['converted', 'artifact', 'return']",
    ]
    found = faults(SimpleNamespace(weights=registry.Weights.weights, reach=reach), registry.Weights)
    assert [fault.partition(" <")[0] for fault in sorted(found)] == ["reach has return", "reach has value"]
    found = faults(SimpleNamespace(open_runtime=open_runtime), registry.Runtimes)
    assert {"no available", "no batches", "no run"} <= set(found)


def test_targets_of_the_schema_and_packages_are_the_same():
    names = get_args(TargetName)
    assert sorted(name.replace("-", "_") for name in names) == PACKAGES
    sections = get_args(get_args(Target)[0])
    assert {get_args(section.model_fields["name"].annotation)[0] for section in sections} == set(names)


def test_no_label_is_two_targets_and_every_one_is_explained():
    known = [one for name in get_args(TargetName) for one in facts.facts(name).EXECUTORS]
    assert len({one.label for one in known}) == len(known) >= 3
    assert all(facts.executor(one.label) == one and one.meaning for one in known)
    unknown = facts.executor("of nobody")
    assert (unknown.label, unknown.instead_of, unknown.note) == ("of nobody", "", "")
    assert unknown.meaning not in {one.meaning for one in known}


def test_what_interprets_says_instead_of_what():
    interpreter = facts.executor("reference-interpreted")
    assert interpreter.instead_of == "Core ML"
    assert "Apple's runtime" in interpreter.note
    assert facts.executor("reference-interpreted", "onnx-cpu").instead_of == ""
    assert facts.executor("coreml-all").instead_of == facts.executor(None).instead_of == ""
