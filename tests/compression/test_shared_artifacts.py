"""Layers that share their weights are one copy in every platform's file, not one for each use."""

from pathlib import Path

import pytest
import yaml

from stages.core import artifact, params
from stages.core.artifact import size_bytes
from stages.core.params import Section
from stages.core.process import quiet
from stages.models import profile
from stages.models.checkpoint import save
from stages.models.reshape import share_layers
from stages.schema.task import Task
from stages.schema.variant import Target
from stages.targets import registry

ROOT = Path(__file__).resolve().parents[2]
TASK = {"name": "classify", "max_length": 12, "sequence_lengths": [6, 12]}
SHAPE = {"hidden_size": 96, "intermediate_size": 384}


class Settings(Section):
    task: Task
    target: Target


@pytest.mark.target
@pytest.mark.parametrize(
    ("target", "groups"),
    [("coreml-metal", [0, 0, 0]), ("onnx-cpu", [0, 0, 1, 1]), ("tflite-nnapi", [0, 0, 1, 1])],
)
def test_shared_layers_are_stored_once_for_every_group(target, groups, make_model, tokenizer, tmp_path):
    model = make_model("bert", **SHAPE, num_hidden_layers=len(groups))
    layer = sum(weight.numel() for weight in model.bert.encoder.layer[0].parameters())
    share_layers(model, groups)
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "out"
    checkpoint.mkdir()
    out.mkdir()
    save(model, tokenizer, checkpoint)
    artifact.write_json(checkpoint / "profile.json", {"mask_constant": 32.0})
    conf = yaml.safe_load((ROOT / f"conf/target/{target}.yaml").read_text(encoding="utf-8"))
    settings = params.parse(Settings, {"task": TASK, "target": conf}, "")
    with quiet(tmp_path / "log"):
        registry.convert(target).convert(checkpoint, settings.task, settings.target, out)
    # The graph itself takes some ten kB; a second copy of the query, key and value alone would not fit.
    assert size_bytes(out) < 4 * profile.parameters(model) + layer
