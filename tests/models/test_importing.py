import json
from types import SimpleNamespace

import numpy as np
import pytest

from stages.core.errors import ConfigError, InputError
from stages.models import checkpoint, importing
from stages.models.encode import encode, logits
from stages.tasks.classify.model import HEAD
from tests.toys.classifiers import LABELS, LIMITS, published


@pytest.fixture
def directory(tmp_path):
    return published(tmp_path / "outside")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_a_checkpoint_of_every_family_is_taken_in(family, tmp_path, make_model):
    published(tmp_path, family)
    model, loaded = importing.read(tmp_path, LABELS, 16, LIMITS, HEAD)
    encoded = encode(loaded, ["wake word1"], 16)
    np.testing.assert_allclose(logits(model, encoded), logits(make_model(family), encoded), atol=1e-5)


def test_labels_in_another_order_are_renumbered_without_changing_an_answer(directory, make_model, tokenizer):
    shuffled = ["music", "alarm", "weather", "lights"]
    edit(directory / "config.json", id2label=dict(enumerate(shuffled)), label2id={n: i for i, n in enumerate(shuffled)})
    model, _ = importing.read(directory, LABELS, 16, LIMITS, HEAD)
    encoded = encode(tokenizer, ["wake word1", "song word2 word3"], 16)
    expected, found = logits(make_model(), encoded), logits(model, encoded)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {name: index for index, name in enumerate(LABELS)}
    for index, name in enumerate(LABELS):
        np.testing.assert_allclose(found[:, index], expected[:, shuffled.index(name)], atol=1e-6)


def test_a_model_whose_classes_have_no_names_keeps_its_own(directory, make_model):
    model, _ = importing.read(directory, [], 16, LIMITS, HEAD)
    assert model.config.id2label == make_model().config.id2label


def test_other_labels_are_refused_naming_at_most_five(directory):
    labels = ["alarm", "lights", *(f"new{index}" for index in range(7))]
    message = r"7 missing \('new0', 'new1', 'new2', 'new3', 'new4', …\), 2 extra \('music', 'weather'\); expected the 9"
    with pytest.raises(InputError, match=message):
        importing.read(directory, labels, 16, LIMITS, HEAD)


def test_two_outputs_of_one_name_are_refused(directory):
    edit(directory / "config.json", id2label={0: "alarm", 1: "lights", 2: "music", 3: "alarm"}, label2id={})
    with pytest.raises(InputError, match="labels are not the data's"):
        importing.read(directory, ["alarm", "lights", "music"], 16, LIMITS, HEAD)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no model.safetensors"),
        ("tokenizer.json", "has no tokenizer; expected one of: tokenizer.json"),
    ],
)
def test_a_missing_file_is_named(directory, name, message):
    (directory / name).unlink()
    with pytest.raises(InputError, match=message):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "cannot read '.*config.json'"),
        ("model.safetensors", "where .* is the next free one|bytes that belong to no tensor|announces a header"),
        ("tokenizer.json", r"the tokenizer '.*outside/tokenizer.json' cannot be used: .*JSON"),
    ],
)
def test_a_truncated_file_is_one_line(directory, name, message):
    whole = (directory / name).read_bytes()
    (directory / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=message) as caught:
        importing.read(directory, LABELS, 16, LIMITS, HEAD)
    assert "\n" not in str(caught.value)


def test_a_bare_encoder_is_refused_rather_than_given_a_random_head(directory, make_model, tokenizer):
    make_model().bert.save_pretrained(directory)
    edit(directory / "config.json", id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)})
    with pytest.raises(InputError, match="is a bare encoder without a classifier"):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)
    edit(directory / "config.json", architectures=None)
    with pytest.raises(InputError, match="lacks weights 'classifier"):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)


def test_a_tokenizer_of_another_checkpoint_is_refused(directory, make_model, tokenizer):
    smaller = make_model()
    smaller.resize_token_embeddings(20)
    checkpoint.save(smaller, tokenizer, directory)
    with pytest.raises(InputError, match="ids up to 48; expected ids below the 20 rows"):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)


def test_fewer_positions_than_the_task_needs_is_refused(directory):
    with pytest.raises(InputError, match="has 16 positions and the task's max_length is 32"):
        importing.read(directory, LABELS, 32, LIMITS, HEAD)


def test_another_family_is_refused(directory):
    edit(directory / "config.json", model_type="deberta-v2")
    with pytest.raises(InputError, match="family 'deberta-v2'; expected one of: albert, bert"):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)


def test_an_unknown_family_is_one_line(directory):
    edit(directory / "config.json", model_type="nonsense")
    with pytest.raises(InputError, match="family 'nonsense'; expected one of: albert, bert"):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)


def test_the_names_of_a_checkpoint_that_nobody_named_are_shown(directory):
    edit(directory / "config.json", id2label=None, label2id=None, num_labels=4)
    with pytest.raises(InputError, match=r"4 extra \('LABEL_0', .*next: set id2label in the checkpoint's config.json"):
        importing.read(directory, LABELS, 16, LIMITS, HEAD)


def test_real_checkpoints_are_taken_in(real):
    for name in ("clinc150_student", "minilm_clinc150"):
        config = json.loads((real / name / "config.json").read_text(encoding="utf-8"))
        labels = sorted(config["id2label"].values())
        model, loaded = importing.read(real / name, labels, 32, LIMITS, HEAD)
        found = logits(model, encode(loaded, ["what is the weather like today"], 32))
        assert labels[int(found.argmax())] == "weather", name


def place(path, revision):
    with importing.opened(path, revision, LIMITS) as (found, _):
        return found


def test_a_directory_is_located_and_has_no_revision(directory):
    assert place(str(directory), None) == directory
    with pytest.raises(ConfigError, match="is local and has no revision; next: set revision: null"):
        place(str(directory), "0" * 40)


def test_a_missing_directory_is_refused_before_any_hub_is_asked():
    with pytest.raises(InputError, match="'no/such' is not a directory; expected a local Hugging Face directory"):
        place("no/such", None)


def test_a_hub_id_needs_a_revision_that_cannot_move():
    with pytest.raises(ConfigError, match="revision 'main' can move; expected a commit hash"):
        place("someone/something", "main")


def test_an_unreachable_hub_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot download 'someone/something' at 000000000000: ") as caught:
        place("someone/something", "0" * 40)
    assert "\n" not in str(caught.value)


def test_only_data_files_are_asked_of_a_hub(monkeypatch, tmp_path):
    asked = SimpleNamespace()

    def download(path, revision, allow_patterns):
        asked.patterns, asked.revision = allow_patterns, revision
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert place("someone/something", "a" * 40) == tmp_path
    assert asked.revision == "a" * 40
    assert not [name for name in asked.patterns if name.endswith((".bin", ".py", "*"))]
