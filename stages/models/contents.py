"""Say what lies in a directory from outside, by names alone: weights, weights of another kind, adapters, leftovers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from stages.core.errors import InputError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model")
ADAPTER = "adapter_config.json"
# What of an adapter is looked for: beside the weights and one directory below, where trainers put it.
ADAPTERS = (ADAPTER, f"*/{ADAPTER}")
ADAPTER_FILES = re.compile(
    r"(adapter_model|pytorch_adapter|pytorch_model_head)\.(bin|safetensors|pt)|adapter_config\.json"
)
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
ARCHIVES = (".7z", ".bz2", ".gz", ".tar", ".tgz", ".xz", ".zip", ".zst")
# What a trainer leaves beside the weights, and what has the same ending and is no pickle of weights.
LEFTOVERS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state|random_states|trainer_state|openvino|model_head).*"
)
# The end of a file's name → what holds its weights, and how its owner writes them for PyTorch.
FOREIGN = {
    ".h5": ("of TensorFlow", "load it with `from_tf=True` in transformers 4 and `save_pretrained`"),
    ".pb": ("of TensorFlow", "load the checkpoint it was exported from in transformers 4 and `save_pretrained`"),
    ".ckpt.index": (
        "of TensorFlow 1",
        "convert it with transformers 4 (`load_tf_weights_in_bert`) and `save_pretrained`",
    ),
    ".msgpack": ("of Flax", "load it with `from_flax=True` in transformers 4 and `save_pretrained`"),
    ".gguf": ("in GGUF, which llama.cpp reads", "name the file itself (teacher.path=FILE.gguf) with task=generate"),
    ".onnx": ("in ONNX", "take the checkpoint it was exported from"),
    ".tflite": ("in TFLite", "take the checkpoint it was exported from"),
    ".mlpackage": ("in Core ML", "take the checkpoint it was exported from"),
    ".ot": ("of rust-bert", "take the checkpoint it was made from"),
    "openvino_model.xml": ("of OpenVINO", "take the checkpoint it was exported from"),
}


def require(directory: Path) -> None:
    """Refuse a directory without settings, weights or tokenizer that would be loaded, or with an adapter.

    Raises:
        InputError: names what lies there instead, and what turns it into what is read.
    """
    if not (directory / CONFIG).is_file() and not adapters(directory):
        below = sorted(directory.glob(f"*/{CONFIG}"))
        raise InputError(
            f"'{directory}' has no {CONFIG}",
            expected="a Hugging Face directory",
            next_step=f"give '{below[0].parent}' if you mean what lies there" if below else "",
        )
    _require_no_adapter(directory)
    if not any((directory / name).is_file() for name in (WEIGHTS, INDEX)):
        raise _without_weights(directory)
    if not any((directory / name).is_file() for name in TOKENIZERS):
        # transformers would make up an empty vocabulary
        raise InputError(f"'{directory}' has no tokenizer", expected=f"one of: {', '.join(TOKENIZERS)}")


def adapters(directory: Path) -> list[Path]:
    """Return files of adapters, beside the weights or one directory below."""
    found = [*directory.glob("*"), *directory.glob("*/*")]
    return sorted(path for path in found if ADAPTER_FILES.fullmatch(path.name))


def pickles(directory: Path) -> list[Path]:
    """Return files of weights that only unpickling would read."""
    other = (LEFTOVERS, ADAPTER_FILES)
    named = [path for path in directory.iterdir() if path.suffix in PICKLES]
    return sorted(path for path in named if not any(pattern.fullmatch(path.name) for pattern in other))


def conversion(directory: Path) -> str:
    """Return the command that turns pickled weights into safetensors."""
    given, out = shlex.quote(str(directory)), shlex.quote(f"{str(directory).rstrip('/')}-safetensors")
    return f"`python -m stages.convert_pickle --checkpoint {given} --out {out}`"


def _require_no_adapter(directory: Path) -> None:
    """Refuse an adapter: transformers applies one beside the weights, and what is built here is the weights alone."""
    found = adapters(directory)
    if found:
        name = found[0].relative_to(directory)
        raise InputError(
            f"an adapter lies in '{directory}' ('{name}')",
            expected="weights that hold everything",
            next_step="merge it (peft: `merge_and_unload`, then `save_pretrained`), or remove it if it is merged",
        )


def _without_weights(directory: Path) -> InputError:
    paths = sorted(directory.iterdir())
    pickled = pickles(directory)
    if pickled:
        return InputError(
            f"'{directory}' has only pickled weights ('{pickled[0].name}'), which can run code when they are read",
            expected=WEIGHTS,
            next_step=f"if you trust where they come from: {conversion(directory)}, and import that directory",
        )
    for path in [*paths, *sorted(directory.glob("onnx/*.onnx"))]:
        if path.suffix in ARCHIVES:
            what = f"in an archive, and nothing is decompressed here ('{path.name}')"
            return InputError(f"'{directory}' has its weights {what}", expected=WEIGHTS)
        known = next((FOREIGN[end] for end in FOREIGN if path.name.endswith(end)), None)
        if known:
            return InputError(
                f"'{directory}' has only weights {known[0]} ('{path.name}')", expected=WEIGHTS, next_step=known[1]
            )
    named = [path.name for path in paths if path.suffix == ".safetensors"]
    return InputError(
        f"'{directory}' has no {WEIGHTS}" + (f" but '{named[0]}'" if named else ""),
        expected="weights in one safetensors file",
    )
