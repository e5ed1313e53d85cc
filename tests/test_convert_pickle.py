"""Pickled weights become safetensors without running anything of theirs."""

import os
import shutil
import zipfile

import pytest
import torch
import yaml

from stages import convert_pickle
from stages.core import artifact
from stages.core.errors import InputError
from stages.models import importing
from stages.models.encode import encode, logits
from stages.tasks.classify.model import HEAD
from tests.toys.classifiers import LABELS, OUTSIDE, published

SETTINGS = convert_pickle.Params.model_validate({"limits": OUTSIDE["limits"]})


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


@pytest.fixture
def pickled(tmp_path, make_model):
    """A checkpoint as older trainers wrote it."""
    out = published(tmp_path / "pickled")
    (out / "model.safetensors").unlink()
    torch.save(make_model().state_dict(), out / "pytorch_model.bin")
    return out


def test_a_pickled_checkpoint_is_converted_by_the_command_and_then_taken_in(pickled, tmp_path, make_model):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"teacher": OUTSIDE}), encoding="utf-8")
    arguments = ["--params", tmp_path / "params.yaml", "--checkpoint", pickled, "--out", tmp_path / "out"]
    assert convert_pickle.main([str(argument) for argument in arguments]) == 0
    model, tokenizer = importing.read(tmp_path / "out", LABELS, 16, SETTINGS.limits, HEAD)
    encoded = encode(tokenizer, ["wake word1"], 16)
    assert (logits(model, encoded) == logits(make_model(), encoded)).all()
    parents = artifact.manifest(tmp_path / "out")["parents"]
    assert parents == {"pickle": artifact.sha256(pickled / "pytorch_model.bin")}


def payload(path, mark):
    torch.save({"w": torch.zeros(2), "x": Payload(mark)}, path)


def legacy_payload(path, mark):
    torch.save({"w": torch.zeros(2), "x": Payload(mark)}, path, _use_new_zipfile_serialization=False)


def compressed(path, mark):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1000))


def no_tensors(path, mark):
    torch.save({"epoch": 3, "w": torch.zeros(2)}, path)


def stretched(path, mark):
    torch.save({"w": torch.zeros(1).expand(4)}, path)


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (payload, r"would call 'posix.system'; expected a pickle of tensors; next: do not open this file"),
        (legacy_payload, "would call 'posix.system'"),
        (compressed, "holds 'archive/data.pkl' compressed"),
        (no_tensors, "it is no dict of tensors by name"),
        (stretched, "cannot be converted: 'w' has 4 elements and the file holds fewer"),
    ],
)
def test_a_hostile_pickle_is_refused_runs_nothing_and_writes_nothing(pickled, tmp_path, make, refusal):
    make(pickled / "pytorch_model.bin", tmp_path / "payload-ran")
    with pytest.raises(InputError, match=refusal):
        convert_pickle.run(SETTINGS, pickled, tmp_path / "out")
    assert not (tmp_path / "payload-ran").exists()
    assert not (tmp_path / "out").exists()


def test_two_pickles_are_not_guessed_between(pickled, tmp_path):
    shutil.copyfile(pickled / "pytorch_model.bin", pickled / "model.ckpt")
    with pytest.raises(
        InputError, match=r"2 pickled files \('model.ckpt', 'pytorch_model.bin'\); expected the weights"
    ):
        convert_pickle.run(SETTINGS, pickled, tmp_path / "out")


def test_what_a_trainer_leaves_beside_the_weights_is_not_taken_for_them(pickled, tmp_path):
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "scheduler.pt"):
        (pickled / name).write_bytes(b"never opened")
    convert_pickle.run(SETTINGS, pickled, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").is_file()
