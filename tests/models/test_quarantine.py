"""A checkpoint from outside is refused in one line before anything of it runs."""

import pickle
import re
import shutil
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.models import checkpoint, importing, quarantine
from stages.tasks.classify.model import HEAD
from tests.models.hostile import CASES, Payload, pickled_weights
from tests.toys.classifiers import LABELS, LIMITS, published


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return published(tmp_path_factory.mktemp("import") / "sound")


@pytest.fixture
def given(sound, tmp_path):
    """A sound checkpoint to spoil."""
    return shutil.copytree(sound, tmp_path / "given")


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_checkpoint_is_one_line_runs_nothing_and_leaves_nothing(given, name, tmp_path, monkeypatch):
    make, _, refusal, limits = CASES[name]
    mark, scratch = tmp_path / "payload-ran", tmp_path / "scratch"
    make(given, mark)
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = {path.name for path in given.iterdir()}
    with pytest.raises(InputError, match=refusal) as caught:
        importing.read(given, LABELS, 16, limits, HEAD)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(scratch) not in str(caught.value)
    assert not mark.exists()
    assert not any(scratch.iterdir())
    assert {path.name for path in given.iterdir()} == before


def test_the_refusal_of_a_pickle_ends_with_the_command_that_converts_it(given):
    pickled_weights(given, given.parent / "payload-ran")
    command = rf"`python -m stages.convert_pickle --checkpoint {given} --out {given}-safetensors`, and import that"
    with pytest.raises(InputError, match=command):
        importing.read(given, LABELS, 16, LIMITS, HEAD)


def test_what_is_not_asked_for_is_never_opened(given, tmp_path):
    """Trainers leave pickles beside the weights; code would be picked up by name."""
    mark = tmp_path / "payload-ran"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (given / name).write_bytes(pickle.dumps(Payload(mark)))
    (given / "modeling.py").write_text(f"import os; os.system('touch {mark}')\n", encoding="utf-8")
    with quarantine.checked(given, LIMITS) as private:
        assert {path.name for path in private.iterdir()} <= set(quarantine.LOADED)
    importing.read(given, LABELS, 16, LIMITS, HEAD)
    assert not mark.exists()


def test_every_guard_is_what_refuses_and_not_the_lowered_limits_of_another(given):
    """The stand-ins that are sound pass under the limits that are configured."""
    for make, _, _, limits in CASES.values():
        if limits != LIMITS and make.__doc__:
            make(given, given.parent / "payload-ran")
            importing.read(given, LABELS, 16, LIMITS, HEAD)


def test_what_was_checked_is_what_is_loaded(given):
    with quarantine.checked(given, LIMITS) as private:
        (given / "model.safetensors").write_bytes(b"swapped after the check")
        checkpoint.load_model(private)


def test_a_snapshot_of_the_hubs_cache_is_taken_in_through_its_links(sound, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    shutil.copytree(sound, blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    importing.read(snapshot, LABELS, 16, LIMITS, HEAD)


def test_nothing_of_the_private_copy_is_remembered(given, tokenizer, tmp_path):
    model, loaded = importing.read(given, LABELS, 16, LIMITS, HEAD)
    (tmp_path / "saved").mkdir()
    checkpoint.save(model, loaded, tmp_path / "saved")
    assert not [path for path in (tmp_path / "saved").iterdir() if b"tinsmith-import" in path.read_bytes()]


def test_the_documented_table_is_the_tested_one():
    lines = Path("docs/import.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    rows = rows[rows.index(["what it is", "what is said of it"]) + 1 :]
    assert [what for what, _ in rows] == [what for _, what, _, _ in CASES.values()]
    for (_, said), (name, (_, _, refusal, _)) in zip(rows, CASES.items(), strict=True):
        assert re.search(refusal.split("; ")[0], said), name
