"""Three ways of loading fine, or not at all, that real clients have: each shows without its cure and is gone with it.

They need the clients themselves: `make clients` installs them.
"""

import shutil

import numpy as np
import pytest

from stages.asking import answers, roster
from stages.asking.comparison import judge
from stages.asking.interview import interview
from stages.asking.question import Answers, Item, Question
from stages.core import artifact
from stages.measure.metrics import softmax
from stages.schema.clients import Bound
from stages.schema.task import Task
from stages.schema.variant import Dynamic
from stages.tasks.base import FORWARD
from tests.toys import asked_build
from tests.toys import bundle as toy
from tests.toys.asked_build import KEY, ask
from tests.toys.classifiers import compressed
from tests.toys.targets import tflite

pytestmark = pytest.mark.target
LENGTH = 16
BOUND = Bound(top1_agreement=0.9, probability_difference=0.05)


def client(name):
    (found,) = (one for one in answers.of_task("classify").CLIENTS if one.name == name)
    if why := roster.missing(found):
        pytest.skip(f"{name}: {why}")
    if found.kind == "node" and not shutil.which("node"):
        pytest.skip("no Node on this host")
    return found


@pytest.fixture
def build(tmp_path):
    return asked_build.write(tmp_path)


def test_transformers_js_refuses_int32_inputs_and_answers_to_int64(build):
    client("transformers-js")
    code, known = ask(build, "transformers-js", required=["transformers-js"])
    assert (code, known["clients"]["transformers-js"]["verdict"]) == (0, "pass")
    (file,) = (build / "release" / KEY / "hf/onnx").glob("*.onnx")
    file.write_bytes(toy.model())
    code, known = ask(build, "transformers-js", required=["transformers-js"])
    assert code == 1
    assert "Unexpected input data type" in known["clients"]["transformers-js"]["reason"]


def test_optimum_refuses_the_tokenizer_class_that_transformers_5_writes(build):
    client("optimum")
    code, known = ask(build, "optimum", required=["optimum"])
    assert (code, known["clients"]["optimum"]["verdict"]) == (0, "pass")
    artifact.write_json(build / "release" / KEY / "hf/tokenizer_config.json", toy.tokenizer_config())
    code, known = ask(build, "optimum", required=["optimum"])
    assert (code, known["clients"]["optimum"]["verdict"]) == (1, "refuses")
    assert "TokenizersBackend" in known["clients"]["optimum"]["reason"]


@pytest.fixture(scope="module")
def per_channel(make_model, tmp_path_factory):
    """A per-channel int8 artifact, its copy that says which kernels it needs, and what LiteRT answers to it."""
    from stages.releasing import litert
    from stages.targets.tflite_nnapi import flatbuffer
    from stages.targets.tflite_nnapi.convert import convert
    from stages.targets.tflite_nnapi.quantize import quantize
    from stages.targets.tflite_nnapi.runtime import open_runtime

    root = tmp_path_factory.mktemp("per_channel")
    for name in ("checkpoint", "converted", "artifact", "copy/litert"):
        (root / name).mkdir(parents=True)
    compressed(make_model("bert", hidden_act="quick_gelu"), root / "checkpoint")
    task = Task(name="classify", max_length=LENGTH, sequence_lengths=[LENGTH])
    target = tflite()
    convert(root / "checkpoint", task, target, root / "converted")
    precision = Dynamic(kind="dynamic", weight_bits=8, granularity="channel")
    quantize(root / "converted", precision, {}, target, root / "artifact")
    model = flatbuffer.read(root / "artifact" / flatbuffer.MODEL)
    assert litert.raise_versions(model)
    flatbuffer.write(model, root / "copy/litert" / flatbuffer.MODEL)

    random = np.random.default_rng(0)
    items = [Item("", [2, *random.integers(5, 40, count).tolist(), 3]) for count in range(2, 12)]
    runtime = open_runtime(root / "artifact", 1)
    rows = [np.array([item.ids], np.int32) for item in items]
    logits = [runtime.run(FORWARD, {"attention_mask": np.ones_like(row), "input_ids": row})["logits"] for row in rows]
    own = Answers(softmax(np.concatenate(logits)), np.zeros((0, 4), np.float32))
    return root, Question("classify", ["a", "b", "c", "d"], LENGTH, items, [], own, own, own.utterances)


def test_tflite_of_2023_misreads_per_channel_int8_and_refuses_the_copy_that_says_so(per_channel):
    old = client("tflite-runtime-2.14")
    root, asked = per_channel
    wrong = judge(asked, asked.artifact, interview(old, asked, root / "artifact"), BOUND, False)
    assert (wrong["verdict"], wrong["max_probability_difference"] > 0.1) == ("fail", True)
    refused = interview(old, asked, root / "copy")
    assert "EMBEDDING_LOOKUP" in refused["refused"]


def test_todays_litert_answers_to_the_copy_as_to_the_artifact(per_channel):
    """And the copy names kernels that tflite-runtime 2.14 does not have: it knows FULLY_CONNECTED up to 11."""
    from stages.asking.python import harness, signatures

    root, asked = per_channel
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(root / "copy/litert/model.tflite"))
    ask_ids = signatures.asking(interpreter, lambda item: list(item["ids"]))
    given = harness.converse(lambda _: ask_ids, {"items": [{"ids": item.ids} for item in asked.utterances]})
    assert judge(asked, asked.artifact, given, BOUND, False)["verdict"] == "pass"
    assert versions(root / "artifact/model.tflite") < versions(root / "copy/litert/model.tflite") == (12, 4)


def test_tflite_micro_answers_in_float_and_names_the_operator_that_it_refuses_as_coverage_foretells(per_channel):
    from ai_edge_litert import schema_py_generated as schema

    from stages.accelerators.covering import cover
    from stages.targets.tflite_nnapi import flatbuffer

    micro = client("tflite-micro")
    root, asked = per_channel
    given = interview(micro, asked, root / "converted")
    entry = judge(asked, asked.artifact, given, BOUND, False)
    covered = cover("tflite-nnapi", root / "converted")
    assert covered["accelerators"]["tflite_micro"]["refused"] == []
    assert (entry["verdict"], entry["arena_bytes"] > covered["values"]["activation_bytes"]) == ("pass", True)

    hybrid, gelu = root / "artifact", root / "gelu"
    shutil.copytree(root / "converted", gelu)
    model = flatbuffer.read(gelu / flatbuffer.MODEL)
    (code,) = (one for one in model.operatorCodes if one.builtinCode == schema.BuiltinOperator.LOGISTIC)
    code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.GELU, 127
    flatbuffer.write(model, gelu / flatbuffer.MODEL)
    for directory, kind in ((hybrid, "FULLY_CONNECTED"), (gelu, "GELU")):
        refused = cover("tflite-nnapi", directory)["accelerators"]["tflite_micro"]["refused"]
        assert {one["operator"] for one in refused} == {kind}
        assert kind in interview(micro, asked, directory)["refused"]


def versions(path):
    from ai_edge_litert import schema_py_generated as schema

    from stages.targets.tflite_nnapi import flatbuffer

    kinds = schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.EMBEDDING_LOOKUP
    found = {code.builtinCode: code.version for code in flatbuffer.read(path).operatorCodes}
    return tuple(found[kind] for kind in kinds)
