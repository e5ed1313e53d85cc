"""dvc.yaml, the modules and conf/ agree: nothing is left out, and an edit reruns what it touches."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from closure import ROOT, closure

TARGETS = ("coreml_metal", "onnx_cpu", "tflite_nnapi")
DYNAMIC = {
    "compose": [f"stages/targets/{target}/__init__.py" for target in TARGETS],
    "convert": ["stages/targets/{module}/convert.py"],
    "quantize": ["stages/targets/{module}/quantize.py"],
    "parity": ["stages/targets/{module}/runtime.py", "stages/targets/{module}/weights.py"],
    "benchmark": ["stages/targets/{module}/runtime.py", "stages/targets/worker.py"],
    "compress": ["stages/compression/{kind}.py"],
    "explain": [f"stages/targets/{target}/{part}.py" for target in TARGETS for part in ("intermediates", "runtime")],
    "prepare": ["stages/data/{data}.py"],
    "release": [f"stages/targets/{target}/runtime.py" for target in TARGETS],
}


@pytest.fixture(scope="module")
def stages():
    """Resolved stages of dvc.yaml: name → (cmd, deps, params)."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with Repo(ROOT) as repo:
        found = {}
        for stage in repo.index.stages:
            deps = [dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)]
            keys = [key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params]
            found[stage.addressing] = (stage.cmd, deps, keys)
        return found


def stage_of(cmd):
    return re.match(r"python -m stages\.(\w+) ", cmd).group(1)


def params():
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_every_command_is_a_stage_module_and_every_stage_module_is_a_command(stages):
    modules = {stage_of(cmd) for cmd, _, _ in stages.values()}
    people = {
        "audit",
        "clients",
        "convert_pickle",
        "current",
        "demo",
        "inject",
        "keygen",
        "second_opinion",
        "summary",
        "sweep",
    }
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert modules | people == files


def test_deps_cover_the_import_closure_of_every_stage(stages):
    tree = params()["plan"]
    assert len(stages) > 30
    for name, (cmd, deps, _) in stages.items():
        module = stage_of(cmd)
        _, _, key = name.partition("@")
        item = (tree["conversions"] | tree["variants"] | tree["compressions"]).get(key, {})
        fields = {"data": tree["data"]["module"], **item}
        roots = [f"stages/{module}.py", *(pattern.format(**fields) for pattern in DYNAMIC.get(module, []))]
        if module == "parity" and item["target"] == "coreml-metal":
            roots.append("stages/coreml/__init__.py")
        if module in ("promote", "track"):
            continue  # they run on every repro
        missing = {
            path for path in closure(*roots) if not any(path == dep or path.startswith(f"{dep}/") for dep in deps)
        }
        assert not missing, f"{name} lacks {sorted(missing)}"


def test_every_import_by_name_is_known_to_these_tests():
    """A module that is found by its name is in no closure: the stage that finds it needs a line in DYNAMIC."""
    found = {
        path.relative_to(ROOT / "stages").as_posix()
        for path in (ROOT / "stages").rglob("*.py")
        if re.search(r"import_module\(\s*f?\"stages\.", path.read_text(encoding="utf-8"))
    }
    found_in_stages = {"compression/__init__.py", "schema/config.py", "targets/registry.py"}
    found_by_people = {"faults/inject.py", "sweeping/cross.py"}
    assert found == found_in_stages | found_by_people


def test_what_a_target_supports_reruns_the_check(stages):
    _, deps, _ = stages["check"]
    targets = {path.stem.replace("-", "_") for path in (ROOT / "conf/target").glob("*.yaml")}
    assert targets == set(TARGETS)
    assert {f"stages/targets/{target}/__init__.py" for target in targets} <= set(deps)


def test_no_stage_imports_another_stage():
    stages = {path.as_posix() for path in Path(ROOT / "stages").glob("*.py")}
    for path in stages:
        own = Path(path).relative_to(ROOT).as_posix()
        others = {other for other in closure(own) if re.fullmatch(r"stages/\w+\.py", other)} - {own}
        assert not others - {"stages/__init__.py"}, f"{own} imports {others}"


def test_core_measure_schema_and_coreml_import_nothing_above_them():
    below = {"core": (), "measure": ("core",), "schema": ("core", "measure"), "coreml": ("core",)}
    for package, lower in below.items():
        allowed = (package, *lower)
        files = sorted((ROOT / "stages" / package).rglob("*.py"))
        assert files
        for path in files:
            for found in closure(path.relative_to(ROOT).as_posix()):
                assert found.split("/")[1] in allowed, f"{path} reaches {found}"


def test_params_of_every_stage_are_declared(stages):
    groups = {"baseline": "gate", "compression": "compressions", "target": "targets", "precision": "precisions"}
    seen = 0
    for name, (cmd, _, keys) in stages.items():
        module = importlib.import_module(f"stages.{stage_of(cmd)}")
        for field in getattr(module, "Params", type("P", (), {"model_fields": {}})).model_fields:
            group = groups.get(field, field)
            assert any(key.split(".")[0] == group for key in keys), f"{name} reads '{field}' but declares {keys}"
            seen += 1
    assert seen > 20


def test_every_target_compression_and_data_kind_has_conf_and_module():
    for path in sorted((ROOT / "conf/target").glob("*.yaml")):
        for part in ("__init__", "convert", "quantize", "runtime", "weights"):
            assert (ROOT / "stages/targets" / path.stem.replace("-", "_") / f"{part}.py").is_file(), (path, part)
    packages = {path.parent.name for path in (ROOT / "stages/targets").glob("*/convert.py")}
    assert {path.stem.replace("-", "_") for path in (ROOT / "conf/target").glob("*.yaml")} == packages
    kinds = {
        yaml.safe_load(path.read_text(encoding="utf-8"))["kind"] for path in (ROOT / "conf/compression").glob("*.yaml")
    }
    assert kinds == {path.stem for path in (ROOT / "stages/compression").glob("*.py")} - {"__init__"}


def test_a_conf_file_is_packaged_under_its_own_name():
    for group in ("target", "precision", "variant", "compression"):
        files = sorted((ROOT / "conf" / group).glob("*.yaml"))
        assert files
        for path in files:
            assert path.read_text(encoding="utf-8").startswith(f"# @package {group}s.{path.stem}\n"), path


def test_every_conf_option_is_selectable_from_the_table_of_contents():
    defaults = yaml.safe_load((ROOT / "conf/config.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen = {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}
    for group in ("target", "precision", "compression"):
        assert set(chosen[group]) == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}


def test_the_lock_holds_every_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)$", lock, re.MULTILINE))
    extras = project["optional-dependencies"]
    declared = project["dependencies"] + extras["dev"] + extras["sweep"]
    assert len(declared) > 25
    for requirement in declared:
        name = re.match(r"[A-Za-z0-9._-]+", requirement).group().lower().replace("_", "-")
        assert name in pinned, f"{requirement} is not in constraints.txt"
    assert pinned["torch"] == "2.13.0"
    assert "tensorflow" not in pinned


def test_tensorflow_has_a_lock_of_its_own_with_the_same_versions_of_what_both_hold():
    pinned, apart = (
        dict(
            re.findall(
                r"^([a-z0-9.-]+)==(\S+)$",
                (ROOT / name).read_text(encoding="utf-8").lower().replace("_", "-"),
                re.MULTILINE,
            )
        )
        for name in ("constraints.txt", "constraints-tensorflow.txt")
    )
    assert {"numpy", "pydantic", "pyyaml", "tensorflow-cpu", "tqdm"} <= set(apart)
    assert {name: version for name, version in apart.items() if pinned.get(name, version) != version} == {}
