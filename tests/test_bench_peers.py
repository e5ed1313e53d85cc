"""`benchmarks.peers` compares what it says it compares; no figure of a clock is tested."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import building, measuring, olive, optimum, profiling, quality, table, timing, tinsmith
from benchmarks.peers.building import Cost
from benchmarks.peers.recipes import Recipe, Step
from benchmarks.peers.timing import Contender
from stages.targets.onnx_cpu.convert import convert
from tests.targets.onnx_models import LABELS, TARGET, TASK, VOCABULARY, make_checkpoint


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Our conversion of a toy checkpoint."""
    root = tmp_path_factory.mktemp("toy")
    checkpoint = make_checkpoint("bert", root / "checkpoint")
    (root / "converted").mkdir()
    convert(checkpoint, TASK, TARGET, root / "converted")
    return checkpoint, root / "converted/model.onnx"


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """Where the parameters for a checkpoint and data that do not exist lie."""
    root = tmp_path_factory.mktemp("composed")
    step = tinsmith.compose(root / "no-checkpoint", root / "no-data", root / "tinsmith")
    assert building.spend(step, root / "log").failure is None
    return step.product.parent


def recipes(**precisions):
    return [Recipe(name.split("_")[0], name, kind, Path(name), ()) for name, kind in precisions.items()]


def row(recipe, **found):
    return {"builder": recipe.builder, "name": recipe.name, "precision": recipe.precision, **found}


def test_contenders_take_turns_on_every_utterance_and_none_always_begins():
    order = []

    def contender(name):
        return Contender(lambda ids: ids, lambda ids: order.append((name, ids.shape[1])))

    utterances = [np.zeros((1, length), np.int32) for length in (3, 5)]
    samples = timing.interleave({"a": contender("a"), "b": contender("b")}, utterances, rounds=2)
    assert {key: len(values) for key, values in samples.items()} == {"a": 4, "b": 4}
    turns = [order[start] for start in range(0, len(order), 1 + timing.RUNS)]
    assert turns == [("a", 3), ("b", 3), ("b", 5), ("a", 5), ("a", 3), ("b", 3), ("b", 5), ("a", 5)]


def test_a_ratio_pairs_the_samples_of_one_turn():
    fast = np.array([1.0, 10.0, 2.0, 5.0])
    found = timing.compare(2 * fast, fast)
    assert found == {"ratio": 2.0, "interval": [2.0, 2.0], "ratio_of_minima": 2.0}


def test_ours_is_held_against_the_fastest_peer_of_its_own_class():
    found = recipes(tinsmith_32="fp32", olive_32="fp32", optimum_32="fp32", tinsmith_8="reduced", olive_8="reduced")
    rows = {recipe.name: row(recipe) for recipe in found}
    medians = {"tinsmith_32": 1.0, "olive_32": 1.5, "optimum_32": 1.2, "tinsmith_8": 1.0, "olive_8": 0.9}
    turns = [{kind: {name: np.full(3, ms) for name, ms in medians.items()} for kind in ("12", "64", "true")}]
    compared = {(one["class"], one["inputs"]): one for one in measuring.compare(rows, turns)}
    full, reduced = compared["fp32", "true"], compared["reduced", "64"]
    assert (full["peer"], full["ratio"], full["met"]) == ("optimum_32", pytest.approx(1.2), True)
    assert (reduced["peer"], reduced["ratio"], reduced["met"]) == ("olive_8", pytest.approx(0.9), False)


def test_a_small_artifact_that_lost_its_accuracy_wins_no_comparison_of_sizes():
    found = recipes(tinsmith_4="reduced", tinsmith_8="reduced", olive_8="reduced")
    sizes = {"tinsmith_4": (10, 0.2), "tinsmith_8": (60, 0.001), "olive_8": (80, 0.0)}
    rows = {one.name: row(one, size_bytes=sizes[one.name][0], quality={"drop": sizes[one.name][1]}) for one in found}
    compared = measuring.compare_sizes(rows)
    assert (compared["ours"], compared["ratio"], compared["met"]) == ("tinsmith_8", 0.75, False)


@pytest.mark.parametrize(("code", "failure"), [("pass", "exit code 0: no message"), ("1 / 0", "exit code 1: ZeroDiv")])
def test_a_step_without_a_product_fails_whatever_its_exit_code(tmp_path, code, failure):
    step = Step("one", (sys.executable, "-c", code), tmp_path / "product")
    step.product.write_text("of an earlier run", encoding="utf-8")
    cost = building.spend(step, tmp_path / "log")
    assert cost.failure is not None
    assert cost.failure.startswith(failure)


def test_a_step_costs_what_its_own_process_took(tmp_path):
    # In a process of its own: what a child was before exec, a copy of this one, counts as its memory.
    spending = """
import os
import subprocess
import sys
from pathlib import Path
from benchmarks.peers.building import spend
from benchmarks.peers.recipes import Step
product, log = Path("product"), Path("log")
code = "import pathlib; block = b'x' * 200_000_000; pathlib.Path('product').touch()"
for command in ((sys.executable, "-c", code), ("touch", "product")):
    print(spend(Step("one", command, product), log).peak_rss_bytes)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", spending], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    heavy, light = map(int, done.stdout.split())
    assert heavy > 200_000_000 > light


def test_a_recipe_costs_its_steps_and_fails_with_any_of_them():
    costs = {"a": Cost(1.0, 2.0, 30), "b": Cost(4.0, 5.0, 20)}
    recipe = Recipe("olive", "row", "fp32", Path("model"), ("a", "b"))
    assert building.total(recipe, costs) == Cost(5.0, 7.0, 30)
    costs["b"] = replace(costs["b"], failure="broken")
    assert building.total(recipe, costs).failure == "broken"


def test_every_recipe_is_made_of_steps_that_are_planned(toy, composed, tmp_path):
    checkpoint, _ = toy
    plans = [optimum.plan(checkpoint, tmp_path), olive.plan(checkpoint, tmp_path), tinsmith.plan(composed)]
    for plan in plans:
        names = [step.name for step in plan.steps]
        assert len(set(names)) == len(names)
        assert {name for recipe in plan.recipes for name in recipe.steps} <= set(names)
        assert {recipe.precision for recipe in plan.recipes} == {"fp32", "reduced"}
    ours = {recipe.name for recipe in plans[-1].recipes}
    assert set(tinsmith.PAIR) <= ours
    assert set(tinsmith.INTAKE) <= {step.name for step in plans[-1].steps}


def test_our_stages_take_the_options_that_our_plan_gives_them(composed):
    for step in tinsmith.plan(composed).steps:
        module, arguments = step.command[2], step.command[3:]
        # 1: nothing lies there. An unknown or missing option would end in a usage error.
        assert importlib.import_module(module).main(arguments) == 1


def test_a_model_of_ours_answers_as_its_checkpoint_does_in_torch(toy):
    checkpoint, model = toy
    ids = np.random.default_rng(0).integers(1, VOCABULARY, (1, 9), dtype=np.int32)
    answers = [one.run(one.feed(ids)) for one in (timing.open_model(model), timing.open_torch(checkpoint))]
    np.testing.assert_allclose(*answers, atol=1e-4)


def test_quality_reads_every_utterance_at_its_true_length(toy):
    _, model = toy
    random, contender = np.random.default_rng(0), timing.open_model(model)
    lengths = np.array([3, 9, 16])
    mask = (np.arange(16) < lengths[:, None]).astype(np.int32)
    ids = random.integers(1, VOCABULARY, mask.shape, dtype=np.int32) * mask
    utterances = quality.true_lengths({"input_ids": ids, "attention_mask": mask})
    logits = np.concatenate([contender.run(contender.feed(one)) for one in utterances])
    labels = logits.argmax(axis=1)
    labels[0] = (labels[0] + 1) % LABELS
    found = quality.measure(contender, {"input_ids": ids, "attention_mask": mask, "labels": labels, "logits": logits})
    assert (found["accuracy"], found["drop"], found["max_abs_error"]) == (pytest.approx(2 / 3), 0.0, 0.0)


def test_a_profile_names_the_operators_that_ran(toy):
    _, model = toy
    found = profiling.profile(model, np.ones((1, 5), np.int32))
    assert sum(one["count"] for one in found["operators"]) == found["nodes"]
    assert sum(one["share"] for one in found["operators"]) == pytest.approx(1)
    assert "LayerNormalization" in {one["operator"] for one in found["operators"]}


def test_a_profile_counts_the_fastest_run_of_each_node():
    events = [
        {"cat": "Node", "name": f"{node}_kernel_time", "dur": duration, "args": {"op_name": operator}}
        for node, operator, duration in [("a", "Add", 5), ("a", "Add", 3), ("b", "Add", 4), ("c", "Gelu", 1)]
    ]
    found = profiling.summarise([*events, {"cat": "Session", "name": "run", "dur": 99}])
    assert (found["nodes"], found["total_us"]) == (3, 8)
    assert found["operators"][0] == {"operator": "Add", "count": 2, "us": 7, "share": 7 / 8}


def test_the_table_says_what_failed_and_what_was_not_measured():
    latency = {kind: {"min": 1.0, "p50": 2.0} for kind in table.KINDS}
    spent = {"build_cpu_s": 1.0, "build_peak_rss_bytes": 1e6, "size_bytes": 1000}
    lines = table.rows(
        [
            {"name": "a", "failure": "exit code 1: x | y"},
            {"name": "b", "latency_ms": latency, "quality": {"not_measured": "random weights"}, **spent},
        ]
    )
    assert "failed: exit code 1: x / y" in lines[2]
    assert "not_measured: random weights" in lines[3]
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_the_table_profiles_both_sides_of_a_missed_comparison_alone():
    operators = [{"operator": "Add", "count": 2, "us": 7.0, "share": 0.7}]
    profile = {"nodes": 3, "total_us": 10.0, "operators": operators}
    compared = [
        {"class": "fp32", "inputs": "true", "ours": "a", "peer": "b", "met": False},
        {"class": "fp32", "inputs": "64", "ours": "c", "peer": "b", "met": True},
    ]
    lines = table.profiles({"comparisons": compared, "profiles": {"a 12": profile, "b 12": profile}})
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a, 12", "| b, 12"]
    assert "Add (2, 70%)" in lines[2]


def test_teacher_and_student_are_each_fed_the_test_split_as_their_own_tokenizer_cuts_it(data, tokenizer, tmp_path):
    from benchmarks.peers import cascade
    from stages.core import splits
    from stages.models import pieces

    texts = splits.read_split(data, "test").texts
    characters = np.flatnonzero(pieces.indispensable(tokenizer, len(tokenizer)))
    own = {"teacher": tokenizer, "student": pieces.rewrite_tokenizer(tokenizer, characters)}
    found = {}
    for name, one in own.items():
        one.save_pretrained(tmp_path / name)
        found[name] = [ids[0].tolist() for ids in cascade.as_cut(tmp_path / name, data, 64)]
        assert found[name] == one(texts)["input_ids"]
    assert found["teacher"] != found["student"]
