"""dvc.yaml, the modules and conf/ agree: nothing is left out, and an edit reruns what it touches."""

import contextlib
import hashlib
import importlib
import json
import re
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml
from composed import composed

from stages import sources
from stages.core.closure import ROOT, closure, modules, names
from stages.schema.plan import STAND_INS

TARGETS = {path.parent.name for path in (ROOT / "stages/targets").glob("*/__init__.py")}

ALWAYS = ("host", "promote", "track")
BUILDS = [("transfer.text=[logs.txt]",), ("task=generate",), ("experiment=stories260k", "teacher.path=given")]

ROOMS = {
    "core": (),
    "measure": ("core",),
    "schema": ("core", "measure"),
    "coreml": ("core",),
    "data": ("core", "measure", "schema"),
    "models": ("core", "data", "measure", "schema"),
    "tasks": ("core", "data", "measure", "models", "schema"),
    "compression": ("core", "measure", "models", "schema", "tasks"),
    "targets": ("core", "coreml", "measure", "models", "schema", "tasks"),
    "accelerators": ("core", "coreml", "measure", "schema", "targets", "tasks"),
    "running": ("core", "measure", "schema", "targets", "tasks"),
    "gating": ("core", "measure", "schema", "tasks"),
    "tracking": ("core", "gating", "measure", "schema", "targets", "tasks"),
    "releasing": ("core", "coreml", "measure", "schema", "targets", "tasks"),
    "lineage": ("core", "releasing", "schema", "targets", "tasks", "tracking"),
    "reporting": ("core", "gating", "measure", "models", "schema", "targets", "tasks"),
    "asking": ("core", "measure", "schema", "targets", "tasks"),
    "injecting": ("core", "coreml", "gating", "lineage", "measure", "models", "running", "schema", "targets", "tasks"),
    "sweeping": ("core", "gating", "measure", "models", "reporting", "schema", "targets", "tasks", "tracking"),
}
"""Room → rooms that its modules may import. A room stands behind all that it imports, so there is no circle of rooms;
stages may import any room, and no room a stage."""
HIGHER = {"clients": "asking", "faults": "injecting", "forms": "releasing", "page": "reporting"}
"""Part of a task → the room that it stands behind: it may import that one and all that this may."""


@pytest.fixture(scope="module")
def stages():
    return resolved(ROOT)


def resolved(root):
    """Resolved stages: name → (cmd, deps, params), but for the one that only makes DVC go to the end."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with contextlib.chdir(root), Repo(".") as repo:  # DVC names stages from where it is run
        found = {}
        for stage in repo.index.stages:
            deps = [dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)]
            keys = [key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params]
            found[stage.addressing] = (stage.cmd, deps, keys)
        assert found.pop("done")[0] == "echo done"
        return found


@pytest.fixture(scope="module", params=BUILDS, ids=" ".join)
def build(request, tmp_path_factory):
    """Stages of a build as it was asked for, and its plan."""
    from dvc.repo import Repo

    root, tree = tmp_path_factory.mktemp("graph"), composed(*request.param)
    for name in ("dvc.yaml", "clone/dvc.yaml"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes((ROOT / name).read_bytes())
    (root / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    Repo.init(str(root), no_scm=True).close()
    return resolved(root), tree["plan"]


def stage_of(cmd):
    return re.match(r"python -m stages\.(\w+) ", cmd).group(1)


def closed(root, chosen=()):
    return {path.as_posix() for path in closure(Path(root), chosen)}


def params():
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_every_command_is_a_stage_module_and_every_stage_module_is_a_command(stages):
    modules = {stage_of(cmd) for cmd, _, _ in stages.values()}
    people = {
        "audit",
        "ahead",
        "ask",
        "convert_pickle",
        "current",
        "demo",
        "inject",
        "keygen",
        "sample",  # a stage where the data are the teacher's own texts
        "second_opinion",
        "summary",
        "sweep",
        "unlabelled",  # a stage where there are such texts
    }
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert modules | people == files


def test_plain_dvc_repro_reaches_every_stage_what_is_published_last():
    """It runs the stages of dvc.yaml and what these need; the ones that run each time stand in another file."""
    from dvc.repo import Repo
    from dvc.repo.reproduce import plan_repro

    with Repo(ROOT) as repo:
        graph = repo.index.graph
        plan = [stage.addressing for stage in plan_repro(graph, repo.stage.collect("dvc.yaml"))]
        always = {stage.addressing for stage in graph if stage.always_changed}
    assert len(plan) == len(graph)
    assert always == {f"clone/dvc.yaml:{name}" for name in ALWAYS}
    assert [name for name in plan if name in ("explain", "release", "done") or name in always] == [
        "clone/dvc.yaml:host", "explain", "clone/dvc.yaml:track", "release", "clone/dvc.yaml:promote", "done",
    ]  # fmt: skip


def test_every_stage_depends_on_the_list_of_its_own_code_and_on_no_other(build):
    stages, tree = build
    lists = {f"build/sources/{place}.json": (module, chosen) for place, module, chosen in sources.units()}
    assert len(stages) > 30
    for name, (cmd, deps, _) in stages.items():
        assert {dep for dep in deps if dep.startswith("stages/")} <= set(STAND_INS)
        if name.partition(":")[2] in ALWAYS or name == "sources":
            continue
        _, _, key = name.partition("@")
        item = (tree["conversions"] | tree["variants"] | tree["compressions"]).get(key, {})
        own = {item["module"]} if "module" in item else {item["kind"]} if stage_of(cmd) == "compress" else TARGETS
        (listed,) = set(deps) & set(lists)
        assert lists[listed] == (Path(f"stages/{stage_of(cmd)}.py"), {tree["task"]["module"], *own}), name


def test_a_list_has_what_is_imported_by_name_and_what_is_no_module(tmp_path):
    sources.run(tmp_path / "sources")
    listed = {
        path.relative_to(tmp_path / "sources").with_suffix("").as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in (tmp_path / "sources").glob("*/*.json")
    }
    page = listed["classify/report"]
    assert {"stages/reporting/page.html.j2", "stages/__init__.py"} <= set(page)
    assert "stages/tasks/classify/forms/samples/classify.mjs" in listed["classify/release"]
    assert "stages/tasks/classify/forms/samples/classify.mjs" not in page
    assert page["stages/report.py"] == hashlib.sha256((ROOT / "stages/report.py").read_bytes()).hexdigest()
    # What only explains, converts or measures reruns that alone.
    for file, stages in {
        "stages/targets/divergence.py": {"explain"},
        "stages/targets/onnx_cpu/convert.py": {"convert-onnx_cpu"},
        "stages/targets/onnx_cpu/weights.py": {"parity-onnx_cpu"},
        "stages/accelerators/nnapi_rules.py": {"coverage-tflite_nnapi"},
    }.items():
        assert {place for place, files in listed.items() if file in files} == {
            f"{task}/{stage}" for task in ("classify", "generate") for stage in stages
        }, file


def test_what_is_found_by_name_is_in_the_closure():
    packages = {f"stages/targets/{target}/__init__.py" for target in TARGETS}
    checked = closed("stages/compose.py", TARGETS)
    assert {path for path in checked if path.startswith("stages/targets/") and path.count("/") == 3} == packages
    assert "stages/models/families/bert.py" in checked
    converting = closed("stages/convert.py", {"onnx_cpu"})
    assert {"stages/targets/onnx_cpu/__init__.py", "stages/targets/onnx_cpu/fuse.py"} <= converting
    assert not {path for path in converting if path.startswith("stages/targets/tflite_nnapi")}
    assert "stages/tasks/classify/data.py" in closed("stages/prepare.py", {"classify"})
    assert "stages/tasks/classify/data.py" not in closed("stages/prepare.py")
    assert "stages/compression/qat.py" in closed("stages/compress.py", {"qat"})
    assert "stages/compression/qat.py" not in closed("stages/compress.py", {"none"})


def test_nothing_here_is_imported_by_a_name_that_the_closure_cannot_follow():
    """Such a name may be what others have installed: runtimes, and a file of coremltools."""
    files = [path.relative_to(ROOT) for path in (ROOT / "stages").rglob("*.py")]
    hidden = {file for file in files if any(name.startswith("*") for name in names(file))}
    assert {file.relative_to("stages").as_posix() for file in hidden} == {
        "accelerators/vendor.py",
        "coreml/proto.py",
        "targets/executing.py",
        "running/worker.py",
    }


def test_no_stage_imports_another_stage():
    stages = {path.as_posix() for path in Path(ROOT / "stages").glob("*.py")}
    for path in stages:
        own = Path(path).relative_to(ROOT).as_posix()
        others = {other for other in closed(own) if re.fullmatch(r"stages/\w+\.py", other)} - {own}
        assert not others - {"stages/__init__.py"}, f"{own} imports {others}"


def test_every_room_imports_what_it_may_and_nothing_else():
    rooms = {path.name for path in (ROOT / "stages").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(ROOMS)
    for index, (room, below) in enumerate(ROOMS.items()):
        assert set(below) <= set(list(ROOMS)[:index]), f"'{room}' stands before what it imports"
        for path in sorted((ROOT / "stages" / room).rglob("*.py")):
            found = {module.parts[1] for module in modules(path.relative_to(ROOT))} - {"__init__.py"}
            may = {room, *below, *behind(path)}
            assert found <= may, f"{path} imports {sorted(found - may)}"


def behind(path):
    """Rooms that a part of a task may import and the others may not."""
    part = [name for name in path.relative_to(ROOT / "stages").with_suffix("").parts if name in HIGHER]
    higher = HIGHER[part[0]] if path.is_relative_to(ROOT / "stages/tasks") and part else None
    return {higher, *ROOMS[higher]} if higher else set()


def test_nothing_imports_itself_by_way_of_another():
    files = [path.relative_to(ROOT) for room in ("stages", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    order = list(TopologicalSorter({path: modules(path) - {path} for path in files}).static_order())
    assert set(files) <= set(order)


def test_no_two_files_of_tests_share_a_name():
    """Pytest would import the first for the second where no package tells them apart."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_longer_than_350_lines():
    files = [path for room in ("stages", "tests") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 400
    lines = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in files}
    assert {name: count for name, count in lines.items() if count > 350} == {}


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
