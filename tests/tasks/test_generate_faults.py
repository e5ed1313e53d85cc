"""Faults of decoders change what a model writes, in heads that the attention turns by itself and in others."""

import json

import numpy as np
import pytest

from stages.injecting.catalogue import NotApplicable, Subject
from stages.injecting.decoding import DECODING, WHAT
from stages.injecting.inject import open_editor
from stages.measure.meaning import differences
from stages.measure.tokens import GENERATION, TEMPLATE, foreign_writing
from stages.models.families import find
from stages.schema.task import Task
from stages.targets import registry
from stages.tasks.generate import exercise, faults
from tests.composed import composed
from tests.toys.decoders import random_llama

pytestmark = pytest.mark.target
HEADS, GROUPS, ROOM = 4, 2, 24
TASK = Task(name="generate", max_length=ROOM, sequence_lengths=[ROOM])
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS}


@pytest.fixture(scope="module", params=[8, 16], ids=["turned outside", "turned inside"])
def model(request, tmp_path_factory):
    """Return what writes a damaged artifact, and the checkpoint's tensors."""
    from safetensors.numpy import load_file

    root = tmp_path_factory.mktemp("model")
    random_llama(1, vocab_size=96, head_dim=request.param).save_pretrained(root)
    from stages.schema.variant import OnnxCpu

    told = OnnxCpu.model_validate(composed()["targets"]["onnx-cpu"])

    def write(out):
        out.mkdir()
        registry.convert("onnx-cpu").convert(root, TASK, told, out)
        return out

    return write, load_file(root / "model.safetensors")


def logits(directory):
    """What follows each token of a text, fed at once and then one by one."""
    session = registry.runtime("onnx-cpu").open_runtime(directory, threads=1)
    ids, state = np.random.default_rng(2).integers(0, 96, ROOM).astype(np.int32), session.new_state()
    return np.stack([exercise.fed(session, part, state) for part in (ids[:9], *np.split(ids[9:], ROOM - 9))])


@pytest.mark.parametrize("fault", sorted(DECODING.keys() - {"unmasked_future"}))
def test_a_fault_changes_the_answers_by_more_than_rounding(model, fault, tmp_path):
    write, tensors = model
    clean, damaged = write(tmp_path / "clean"), write(tmp_path / "damaged")
    editor = open_editor("onnx-cpu", damaged)
    parts, random = find("llama").parts, np.random.default_rng(0)
    DECODING[fault](Subject(editor, tensors, 0.0, HEADS, parts, random, groups=GROUPS))
    editor.save()
    before, after = logits(clean), logits(damaged)
    assert np.abs(after - before).max() / before.std() > 1e-4


def test_what_an_operator_cannot_do_is_not_applicable(model, tmp_path):
    write, tensors = model
    editor = open_editor("onnx-cpu", write(tmp_path / "clean"))
    subject = Subject(editor, tensors, 0.0, HEADS, find("llama").parts, np.random.default_rng(0), groups=HEADS)
    with pytest.raises(NotApplicable, match="the artifact has nothing for 'unmasked_future'"):
        DECODING["unmasked_future"](subject)
    with pytest.raises(NotApplicable, match="every head has keys and values of its own"):
        DECODING["reordered_groups"](subject)
    assert set(WHAT) < set(DECODING) < set(faults.STORED)


RULES = {
    "foreign_template": f"{TEMPLATE} is not the teacher's",
    "foreign_end": f"{GENERATION} has another 'eos_token_id' than the teacher's",
}


@pytest.mark.parametrize("fault", RULES)
def test_rules_of_writing_that_are_not_the_teachers_are_named(fault, tmp_path):
    for name in ("teacher", "checkpoint"):
        (tmp_path / name).mkdir()
        (tmp_path / name / TEMPLATE).write_text("{{ messages }}", encoding="utf-8")
        said = {"eos_token_id": [2, 3], "transformers_version": name}
        (tmp_path / name / GENERATION).write_text(json.dumps(said), encoding="utf-8")
    assert foreign_writing(tmp_path / "checkpoint", tmp_path / "teacher") == []
    faults.INTERFACE[fault](tmp_path / "checkpoint")
    assert foreign_writing(tmp_path / "checkpoint", tmp_path / "teacher") == [RULES[fault]]
    (tmp_path / "teacher" / TEMPLATE).unlink()
    assert f"{TEMPLATE} is not the teacher's" in foreign_writing(tmp_path / "checkpoint", tmp_path / "teacher")


@pytest.mark.parametrize(
    "frame", [None, {"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": ["SpecialToken"]}]
)
def test_a_tokenizers_rules_are_broken_where_it_has_them(frame, tmp_path):
    splits = {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]}
    token = {"content": "<s>", "id": 1, "special": True}
    path = tmp_path / "tokenizer.json"
    rules = {"added_tokens": [token], "post_processor": frame, "pre_tokenizer": splits}
    path.write_text(json.dumps(rules), encoding="utf-8")
    faults.unframed_text(tmp_path)
    found = json.loads(path.read_text(encoding="utf-8"))["post_processor"]
    assert (found is None) == ("SpecialToken" in json.dumps(frame))
    faults.whole_numbers(tmp_path)
    now = json.loads(path.read_text(encoding="utf-8"))
    assert differences(now, rules, ["pre_tokenizer"]) == ["pre_tokenizer.pretokenizers has 1 entries, expected 2"]
    with pytest.raises(NotApplicable, match="does not split digits"):
        faults.whole_numbers(tmp_path)
