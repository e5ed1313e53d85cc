"""conf/ composes to params.yaml, drift stops the build, and nothing impossible gets through."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages import compose
from stages.core.errors import ConfigError, StaleParams
from stages.schema import plan

ROOT = Path(__file__).resolve().parent.parent
TASK = {"name": "classify"}
NONE = "{compression: none, target: onnx-cpu, precision: %s, required: true, release_not_measured: false}"

FLOOR = "{metric: accuracy, unit: %s, at_least: %s, min_n: 10}"


@pytest.fixture
def workspace(tmp_path):
    """A copy of what composing needs."""
    for name in ("conf", "stages", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(workspace, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "stages.compose", *arguments], cwd=workspace, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def here(tmp_path, capsys):
    """Compose the conf/ of this repository in this process: most of a command's second is Hydra's import."""

    def run(*arguments):
        capsys.readouterr()
        code = compose.main([*arguments, "--params", str(tmp_path / "params.yaml")])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """What the first stage does, in this process, where `here` composed to and a copy of conf/ lies."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "stages").symlink_to(ROOT / "stages")

    def run():
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            code = compose.main(["--check", "build/checked.json"])
        return subprocess.CompletedProcess([], code, *capsys.readouterr())

    return run


def test_the_committed_params_are_the_composition_of_the_committed_conf(workspace):
    assert run(workspace).returncode == 0
    assert (workspace / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_fresh_params_pass_the_check_and_the_receipt_is_constant(here, check, tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert check().returncode == 0
    first = (tmp_path / "build/checked.json").read_bytes()
    assert here("benchmark.warmup=11").returncode == 0
    assert check().returncode == 0
    assert (tmp_path / "build/checked.json").read_bytes() == first


def test_an_edit_of_conf_stops_the_build_with_the_repairing_command(check, tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    path = tmp_path / "conf/gate/default.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    done = check()
    assert done.returncode == 1
    assert "conf/ has changed since it was composed" in done.stderr
    assert "python -m stages.compose" in done.stderr
    assert not (tmp_path / "build/checked.json").exists()


def test_a_gate_loosened_by_hand_in_params_stops_the_build(check, tmp_path):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tree["gate"]["precisions"]["fp32"][1]["at_most"] = 1e9
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    done = check()
    assert done.returncode == 1
    assert "it was edited by hand" in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.max_length=abc", "'task.max_length' is 'abc'; expected: input should be a valid integer"),
        ("+task.colour=1", "unknown key 'task.colour'"),
        ("benchmark.repetitions=0", "'benchmark.repetitions' is 0; expected: input should be greater than"),
        ("variant=[]", "no variant is chosen"),
        (
            "variant=onnx-cpu-source_b32",
            "'onnx-cpu-source_b32' keeps weights as the teacher's file holds them, and teacher.kind is 'train'; "
            "expected teacher=checkpoint teacher.path=FILE.gguf student=none, and compression none",
        ),
        ("student.heads=3", "3 heads do not divide hidden_size 64"),
        ("task.name=translate", "task.name is 'translate'; expected one of: classify, generate"),
        ("teacher.family=deberta-v2", "teacher.family is 'deberta-v2'; expected one of: albert, bert, "),
        ("teacher.training.dropout=1.0", "input should be less than 1"),
        ("teacher.training.learning_rate=inf", "input should be a finite number"),
        ("distill={temperature: 1, kl_weight: 0, ce_weight: 0}", "all weights of the loss are 0"),
        ("data=nowhere", "conf/data has no 'nowhere'"),
        ("typo=1", "conf/ has no key 'typo'"),
        (f"+variants.v1.5={NONE % 'fp32'}", "no '.' in a variant's name"),
        (f"+variants.twin={NONE % 'fp32'}", "'onnx-cpu-fp32' and 'twin' are the same"),
        (
            f"+variants.odd={NONE % 'pal4'}",
            "'onnx-cpu' cannot be lowered to precision 'pal4'; expected one of: float 16 or 32, dynamic wi8",
        ),
        (f"+variants.odd={NONE % 'fp4'}", "names precision 'fp4', which conf/config.yaml does not select"),
        (
            "compressions.sparse.pattern.sparsity=0.5",
            "changes nothing: no variant names 'sparse'; expected one that does",
        ),
        (
            "variant=[onnx-cpu-pal4]",
            "'onnx-cpu' cannot be lowered to precision 'pal4'; expected one of: float 16 or 32",
        ),
        (f"gate.reference=[{FLOOR % ('percent', 75)}]", "is measured in 'fraction', its threshold in 'percent'"),
        (f"gate.reference=[{FLOOR % ('fraction', 75)}]", "can never fire"),
        (
            "gate.reference=[{metric: top1_agreement, unit: fraction, at_least: 0.5, min_n: 10}]",
            "a reference has no 'top1_agreement'",
        ),
        (
            "data.test_size=600",
            "variant 'tflite-nnapi-fp32' is required and can never pass: top1_agreement is measured on 600 test texts, "
            "and nothing can pass on fewer than 1,000; next: raise that size in conf/data",
        ),
        ("data.calibration_size=32", "calibration_agreement is measured on 32 calibration texts"),
        ("data.probe_size=15", "form_relative_error is measured on 15 probe texts in other forms"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_leaves_params_alone(here, tmp_path, override, message):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = here(override)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_what_fewer_texts_can_show_composes_on_fewer_texts(here):
    done = here("data.test_size=600", "variant=[onnx-cpu-dynamic_wi8_afp32]")
    assert (done.returncode, done.stderr) == (0, "")
    optional = ("variant=[onnx-cpu-fp32]", "variants.onnx-cpu-fp32.required=false")
    assert here("data.test_size=600", *optional).returncode == 0  # its verdict says what it lacks


def composed(workspace, *overrides):
    done = run(workspace, *overrides)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))


def test_a_variant_is_what_its_name_says_unless_a_file_says_otherwise(workspace):
    names = ["onnx-cpu-fp16", "coreml-metal-small_vocabulary_shared-pal4", "onnx-cpu-fp32"]
    (workspace / "conf/variant/onnx-cpu-fp32.yaml").write_text(
        f"# @package variants.onnx-cpu-fp32\n{yaml.safe_dump(yaml.safe_load(NONE % 'fp32') | {'required': False})}",
        encoding="utf-8",
    )
    variants = composed(workspace, f"variant=[{','.join(names)}]", "release.required=true")["variants"]
    said = {
        key: (one["target"], one["compression"], one["precision"], one["required"]) for key, one in variants.items()
    }
    assert said == {
        names[0]: ("onnx-cpu", "none", "fp16", True),
        names[1]: ("coreml-metal", "small_vocabulary_shared", "pal4", True),
        names[2]: ("onnx-cpu", "none", "fp32", False),
    }
    variants = composed(
        workspace, "release.required=false", "variants.onnx-cpu-fp16.required=true", f"variant=[{','.join(names)}]"
    )
    assert {key: one["required"] for key, one in variants["variants"].items()} == {
        names[0]: True,
        names[1]: False,
        names[2]: False,
    }


def test_a_name_that_says_no_variant_is_one_line_with_the_nearest_in_a_file_too(workspace):
    (workspace / "conf/experiment/odd.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /variant: [onnx-cpu-pruned-fp23]\n", encoding="utf-8"
    )
    done = run(workspace, "experiment=odd")
    assert done.returncode == 1
    assert "conf/variant has no 'onnx-cpu-pruned-fp23'; expected TARGET-PRECISION or TARGET-COMPRESSION" in done.stderr
    assert "(nearest: onnx-cpu-pruned-fp32 or " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_params_have_what_variants_name_and_nothing_else(workspace):
    tree = composed(workspace, "variant=[onnx-cpu-small_vocabulary_shared-fp32,coreml-metal-pal4]")
    assert set(tree["compressions"]) == {"none", "small_vocabulary", "small_vocabulary_shared"}
    assert set(tree["targets"]) == {"onnx-cpu", "coreml-metal"}
    assert set(tree["precisions"]) == set(tree["gate"]["precisions"]) == {"fp32", "pal4"}
    assert (ROOT / "params.yaml").stat().st_size <= 15_000


def test_every_experiment_composes(here):
    experiments = sorted((ROOT / "conf/experiment").glob("*.yaml"))
    assert experiments
    for path in experiments:
        given = ["teacher.path=model.gguf"] if path.stem == "smollm2" else []  # keeps what a file of this kind holds
        assert here(f"experiment={path.stem}", *given).returncode == 0, path


def test_every_option_of_every_group_composes(here):
    """The options of a group each with the next ones of the others; what is called as a task is that task's."""
    options = {
        group: sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
        for group in ("data", "teacher", "student", "transfer", "distill", "gate")
    }
    own = {f"{group}=generate" for group, names in options.items() if "generate" in names}
    written = {"data=samples", "teacher=checkpoint"}  # what a language model from outside writes
    together = [
        {f"{group}={name}" for group, name in zip(options, row, strict=True) if name} - own - written
        for row in itertools.zip_longest(*options.values())
    ]
    together += [{"task=generate", *own}, {"task=generate", "transfer=none", "student=none", *written}]
    for chosen in together:
        done = here(*sorted(chosen), "variant=[onnx-cpu-fp32]")
        assert done.returncode == 0, (chosen, done.stderr)
    tried = set().union(*together)
    assert tried >= {f"{group}={name}" for group, names in options.items() for name in names}
    assert len(together) < len(tried) > 25


def test_data_or_a_teacher_that_is_not_there_stops_the_build_before_dvc_does(here, check):
    here("data=clinc150", "data.path=nowhere/clinc150")
    done = check()
    assert done.returncode == 1
    assert "error: data (train): 'nowhere/clinc150' does not exist" in done.stderr
    here("teacher=checkpoint", "teacher.path=google-bert/bert-base-uncased")
    assert "a hub id needs a pinned revision" in check().stderr


def test_three_files_side_by_side_are_three_dependencies():
    data = {"kind": "jsonl", "train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}
    derived = plan.derive({"data": data, "task": TASK, "teacher": {"kind": "train"}, "variants": {}})
    assert derived["data"] == {"train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}


def chained(**after):
    compressions = {name: {"kind": "toy", "after": before} for name, before in after.items()}
    variants = {"v": {"compression": "c", "target": "onnx-cpu", "precision": "fp32"}}
    return {"data": {"kind": "embedded"}, "task": TASK, "teacher": {"kind": "train"}} | {
        "compressions": compressions,
        "variants": variants,
    }


def test_a_task_names_its_package():
    assert plan.derive(chained(c=None) | {"task": {"name": "to-say-it"}})["task"] == {"module": "to_say_it"}


def test_a_chained_compression_brings_its_steps_but_no_reference_of_them():
    derived = plan.derive(chained(a=None, b="a", c="b", d="c"))
    sources = {name: fields["source"] for name, fields in derived["compressions"].items()}
    assert sources == {"a": "student", "b": "compressed/a", "c": "compressed/b"}
    assert derived["references"] == ["c"]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({"b": None, "c": "gone"}, "compression 'c' comes after 'gone', which .* expected one of: b, c"),
        ({"a": "c", "b": "a", "c": "b"}, "in a circle: c after b after a after c; expected .*`after: null`"),
        ({"c": "c"}, "in a circle: c after c"),
    ],
)
def test_compressions_that_cannot_be_ordered_are_refused(after, message):
    with pytest.raises(ConfigError, match=message):
        plan.derive(chained(**after))


def test_a_digest_covers_names_and_bytes_of_conf(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1", encoding="utf-8")
    first = plan.conf_digest(tmp_path)
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    assert plan.conf_digest(tmp_path) != first
    with pytest.raises(StaleParams, match="conf/ has changed"):
        compose.check_fresh({"conf_digest": first}, tmp_path)


def test_a_gate_of_another_task_is_refused_before_anything_is_built(here):
    done = here("task=generate", "gate=default", "variant=[onnx-cpu-fp32]")
    assert done.returncode == 1
    assert "conf/gate asks for 'accuracy', which the task 'generate' does not measure" in done.stderr
    assert "next: choose the task's own gate, as in gate=generate" in done.stderr
