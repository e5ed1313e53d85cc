"""What lies in a directory instead of weights, or beside them, is named with what to do about it."""

import pytest

from stages.core.errors import InputError
from stages.models import contents, importing
from tests.toys.classifiers import LIMITS


@pytest.fixture
def given(tmp_path):
    """A directory by names alone: nothing in it is opened."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "pytorch_adapter.bin",
        "pytorch_model_head.bin",
        "lora/adapter_config.json",
        "checkpoint-500/adapter_model.safetensors",
    ],
)
def test_an_adapter_beside_the_weights_is_refused_wherever_it_lies(given, name):
    (given / name).parent.mkdir(exist_ok=True)
    (given / name).write_text("{}", encoding="utf-8")
    with pytest.raises(
        InputError, match=rf"an adapter lies in .*\('{name}'\).*merge it .*or remove it if it is merged"
    ):
        contents.require(given)


def test_an_adapter_alone_is_called_one(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="an adapter lies in"):
        contents.require(tmp_path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tf_model.h5", "only weights of TensorFlow .'tf_model.h5'.*from_tf"),
        ("saved_model.pb", "only weights of TensorFlow"),
        ("bert_model.ckpt.index", "only weights of TensorFlow 1"),
        ("flax_model.msgpack", "only weights of Flax .*from_flax"),
        ("model.Q4_K_M.gguf", "only weights in GGUF"),
        ("model.onnx", "only weights in ONNX"),
        ("onnx/model.onnx", "only weights in ONNX"),
        ("model.tflite", "only weights in TFLite"),
        ("rust_model.ot", "only weights of rust-bert"),
        ("openvino_model.xml", "only weights of OpenVINO"),
        ("pytorch_model.bin", "only pickled weights .'pytorch_model.bin'"),
        ("model.fp16.safetensors", "no model.safetensors but 'model.fp16.safetensors'"),
    ],
)
def test_weights_of_another_kind_are_called_what_they_are(given, name, what):
    (given / "model.safetensors").unlink()
    (given / name).parent.mkdir(exist_ok=True)
    for leftover in ("training_args.bin", "optimizer.pt", "openvino_model.bin", "model_head.pkl"):
        (given / leftover).write_bytes(b"")
    (given / name).write_bytes(b"")
    with pytest.raises(InputError, match=what):
        contents.require(given)


def test_what_trainers_leave_is_neither_weights_nor_an_adapter(given):
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        (given / name).write_bytes(b"")
    contents.require(given)
    (given / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model.safetensors; expected weights in one safetensors file"):
        contents.require(given)


def test_a_hub_is_asked_whether_an_adapter_lies_there(monkeypatch, given):
    asked = []

    def download(path, revision, allow_patterns):
        asked.extend(allow_patterns)
        return str(given)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with importing.opened("someone/something", "a" * 40, LIMITS):
        pass
    assert {"adapter_config.json", "*/adapter_config.json"} <= set(asked)
