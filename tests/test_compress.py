"""Compress writes a checkpoint that everything downstream can load, or nothing."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from stages import compress
from stages.core import artifact
from stages.models.blocks import blocks, remove_heads
from stages.models.checkpoint import load_model, save
from stages.models.export import load_export_module
from tests.composed import composed

ROOT = Path(__file__).resolve().parents[1]
TASK = {"name": "classify", "max_length": 12, "sequence_lengths": [6, 12]}


@pytest.fixture
def params(tmp_path):
    pruned = composed()["compressions"]["pruned"]
    pruned["importance_utterances"] = 16
    pruned["recovery"]["training"] |= {"epochs": 1.0, "min_steps": 1}
    path = tmp_path / "params.yaml"
    path.write_text(
        yaml.safe_dump({"task": TASK, "compressions": {"none": {"kind": "none"}, "half": pruned}}), encoding="utf-8"
    )
    return path


@pytest.fixture
def student(make_model, tokenizer, tmp_path):
    return write_student(make_model("bert"), tokenizer, tmp_path / "student")


def write_student(model, tokenizer, out):
    with artifact.writing(out, stage="distill", parents={}) as temporary:
        save(model, tokenizer, temporary)
    return out


def run(params, data, student, out, name):
    arguments = {"params": params, "data": data, "checkpoint": student, "out": out, "name": name}
    return compress.main([part for key, value in arguments.items() for part in (f"--{key}", str(value))])


def test_none_passes_the_weights_through_and_profiles_them(params, data, student, tmp_path):
    out = tmp_path / "none"
    assert run(params, data, student, out, "none") == 0
    assert artifact.sha256(out / "model.safetensors") == artifact.sha256(student / "model.safetensors")
    profile = json.loads((out / "profile.json").read_text(encoding="utf-8"))
    assert profile["macs"] == profile["macs_by_length"]["12"] > profile["macs_by_length"]["6"]
    assert profile["removed"] == {}
    assert profile["mask_leak"] <= 1e-6
    assert not (out / "history.csv").exists()
    assert set(artifact.manifest(out)["parents"]) == {"data", "student"}


def test_a_pruned_checkpoint_is_smaller_and_its_export_module_loads(params, data, student, tmp_path):
    out = tmp_path / "half"
    assert run(params, data, student, out, "half") == 0
    profile = json.loads((out / "profile.json").read_text(encoding="utf-8"))
    module = load_export_module(out)
    assert profile["parameters"] == sum(weight.numel() for weight in module.parameters())
    assert profile["parameters"] < sum(weight.numel() for weight in load_model(student).parameters())
    ids = torch.tensor([[2, 9, 14, 3, 0, 0]], dtype=torch.int32)
    plain = load_model(out)(input_ids=ids, attention_mask=(ids != 0).long()).logits
    torch.testing.assert_close(module(ids, (ids != 0).int()), plain, rtol=0, atol=1e-4)
    assert len((out / "history.csv").read_text(encoding="utf-8").splitlines()) >= 2
    assert artifact.problems(out) == []


def test_the_same_inputs_give_the_same_bytes(params, data, student, tmp_path):
    assert run(params, data, student, tmp_path / "first", "half") == 0
    assert run(params, data, student, tmp_path / "second", "half") == 0
    assert artifact.digest(tmp_path / "first") == artifact.digest(tmp_path / "second")


def test_an_already_pruned_student_can_be_compressed_again(params, data, make_model, tokenizer, tmp_path):
    model = make_model("bert")
    remove_heads(model, {0: [1]})
    student = write_student(model, tokenizer, tmp_path / "student")
    assert run(params, data, student, tmp_path / "half", "half") == 0
    assert sum(block.heads for block in blocks(load_model(tmp_path / "half"))) == 4


def test_a_student_whose_norms_have_their_old_names_can_be_pruned(params, data, student, tmp_path):
    """Pruning ends in saving and loading a smaller model: names that only the old file had would not be found."""
    path = student / "model.safetensors"
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(path).items()
    }
    with artifact.writing(tmp_path / "old", stage="distill", parents={}) as temporary:
        for file in student.iterdir():
            if file.is_file() and file.name != artifact.MANIFEST:
                (temporary / file.name).write_bytes(file.read_bytes())
        save_file(renamed, temporary / "model.safetensors", metadata={"format": "pt"})
    assert run(params, data, tmp_path / "old", tmp_path / "half", "half") == 0
    assert run(params, data, student, tmp_path / "today", "half") == 0
    assert artifact.sha256(tmp_path / "half/model.safetensors") == artifact.sha256(tmp_path / "today/model.safetensors")


def test_a_chained_compression_starts_from_the_one_before_and_names_it(params, data, student, tmp_path):
    tree = yaml.safe_load(params.read_text(encoding="utf-8"))
    tree["compressions"]["quarter"] = tree["compressions"]["half"] | {"after": "half", "heads_fraction": 0.25}
    params.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert run(params, data, student, tmp_path / "half", "half") == 0
    assert run(params, data, tmp_path / "half", tmp_path / "quarter", "quarter") == 0
    parents = artifact.manifest(tmp_path / "quarter")["parents"]
    assert parents == {"compressed-half": artifact.digest(tmp_path / "half"), "data": artifact.digest(data)}
    assert [block.ffns[0].up.out_features for block in blocks(load_model(tmp_path / "quarter"))] == [12, 12]


def test_an_unknown_compression_is_refused_with_the_known_ones(params, data, student, tmp_path, capsys):
    assert run(params, data, student, tmp_path / "out", "quarter") == 1
    assert "no 'compressions.quarter'; expected one of: half, none" in capsys.readouterr().err


def test_a_student_whose_logits_are_not_finite_leaves_nothing_behind(
    params, data, make_model, tokenizer, tmp_path, capsys
):
    model = make_model("bert")
    model.classifier.bias.data[0] = float("nan")
    student = write_student(model, tokenizer, tmp_path / "student")
    assert run(params, data, student, tmp_path / "out", "none") == 1
    assert "the checkpoint's logits have spread nan" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "student"]


def test_an_altered_student_is_refused(params, data, student, tmp_path, capsys):
    (student / "config.json").write_text("{}", encoding="utf-8")
    assert run(params, data, student, tmp_path / "out", "none") == 1
    assert "is not what its stage wrote" in capsys.readouterr().err


@pytest.mark.real
def test_a_real_student_hides_its_padding(real, tokenizer):
    from stages.models.checkpoint import load_tokenizer
    from stages.schema.task import Task

    directory = real / "clinc150_student"
    texts = [
        text for text, _ in json.loads((real / "clinc150/data_full.json").read_text(encoding="utf-8"))["val"][::100]
    ]
    found = compress.profile(
        load_model(directory),
        load_tokenizer(directory),
        texts,
        Task(**TASK | {"max_length": 32, "sequence_lengths": [16, 32]}),
    )
    assert found["parameters"] == 1_094_550
    assert found["macs"] == 13_142_784
    assert found["mask_constant"] <= 64
