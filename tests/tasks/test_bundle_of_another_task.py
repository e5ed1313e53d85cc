"""A task that brings words and answers and no client's form is released and audited as any other."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, helper

from stages import audit
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.injecting import forgery, inject
from stages.lineage import findings
from stages.releasing.forms import of_task
from stages.tasks import registry
from tests.toys import audited_build
from tests.toys import bundle as toy

BUNDLE = Path("build/release") / audited_build.KEY
TASK = toy.TASK | {"name": "tag"}


def per_token():
    """The toy without its sum over tokens."""
    model = ModelProto.FromString(toy.model())
    del model.graph.node[-1], model.graph.output[:]
    model.graph.node[-1].output[0] = "logits"
    model.graph.output.append(helper.make_tensor_value_info("logits", 1, ["batch", "sequence", len(toy.LABELS)]))
    return model.SerializeToString(deterministic=True)


def signature():
    calls = [call.model_dump() for call in registry.interface("tag").calls(TASK)]
    return json.dumps(json.loads(toy.signature()) | {"task": "tag", "calls": calls}).encode()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A workspace with a build of this task, released."""
    workspace, before, made = tmp_path_factory.mktemp("tag") / "workspace", Path.cwd(), per_token()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "model", lambda: made)
        patch.setitem(audited_build.SETTINGS, "data", audited_build.SETTINGS["data"].model_copy(update={"task": TASK}))
        audited_build.enter(workspace, signature())
        try:
            audited_build.write_build()
            audited_build.ship(None)
        finally:
            os.chdir(before)
    return workspace


@pytest.fixture
def bundle(template, tmp_path, monkeypatch):
    shutil.copytree(template, tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    return BUNDLE


def wrong():
    root = audit.audit(str(BUNDLE), None, offline=False, again=False)
    notes = " ".join(note for link in root.all() for note in link.notes)
    return [str(finding) for finding in findings.findings(root)], notes


def test_it_holds_the_artifact_and_a_tag_for_every_token_of_the_probe(bundle):
    limits, probe = (artifact.read_json(bundle / f"{name}.json") for name in ("limits", "probe"))
    assert (set(limits["forms"]), limits["labels"]) == ({"onnx"}, 2)
    assert limits["truncation"] == of_task("tag").WORDS.truncation
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    for row in (*probe["utterances"], *probe["edges"]):
        ids = np.array([row["ids"]], np.int32)
        (logits,) = session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert row["indices"] == logits[0].argmax(axis=-1).tolist()
        assert [toy.LABELS[index] for index in row["indices"]] == row["labels"]
    assert {path.name for path in bundle.iterdir()} >= {"labels.json", "labels.txt", "golden.npz", "tokenizer"}
    assert not {"hf", "samples", "text"} & {path.name for path in bundle.iterdir()}


def test_card_and_bom_say_what_it_is(bundle):
    card, bom = (bundle / "README.md").read_text(encoding="utf-8"), artifact.read_json(bundle / "bom.cdx.json")
    assert "A token classifier with 2 tags: none" in card
    assert "- `model.onnx`: ONNX Runtime." in card
    model = bom["metadata"]["component"]["modelCard"]
    assert model["modelParameters"]["task"] == "token-classification"
    assert "The student has 9 parameters and tags 90.00 % of 2 words rightly" in json.dumps(model["considerations"])


def test_its_audit_writes_it_again_and_names_what_was_forged(bundle):
    found, notes = wrong()
    assert found == []
    assert "files were written again, 0 came out otherwise" in notes
    forgery.rotate_labels(bundle)
    forgery.reseal(bundle)
    assert any("labels.txt" in said for said in wrong()[0])


def test_answers_by_another_name_than_their_class_are_named(bundle):
    probe = artifact.read_json(bundle / "probe.json")
    probe["utterances"][0]["labels"].reverse()
    assert probe["utterances"][0]["labels"] != artifact.read_json(bundle / "probe.json")["utterances"][0]["labels"]
    artifact.write_json(bundle / "probe.json", probe)
    forgery.reseal(bundle)
    assert any("probe.json: expected answers by the names of their classes" in said for said in wrong()[0])


def test_a_signature_of_no_task_imports_nothing():
    with pytest.raises(ArtifactError, match="there is no task 'os'; expected one of: classify, .*tag"):
        of_task("os")


def test_what_may_break_in_it_is_what_may_in_a_classifier_but_for_what_only_that_has():
    assert set(inject.names("classify")) - set(inject.names("tag")) == {"multi_label_config"}
