"""Match the tensors of a file with those of a model, one to one: what either side has alone is named.

transformers drops what a model does not use, takes the first of two tensors for one weight, and reports shapes that
disagree to a log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open

from stages.core.errors import InputError
from stages.models.families import family_of
from stages.models.heads import FINETUNE, MADE_FOR, PRETRAINED, TENSORS, TRAINED

# `position_ids` are counted, and compared.
POSITIONS = re.compile(r"(.*\.)?position_ids")
FLOATS = {"F16", "BF16", "F32", "F64"}
LAYOUTS = {None, "pt", "np", "mlx"}
# Names of layers, and today's, of checkpoints that were converted from TensorFlow.
LEGACY = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
SHOWN = 3
# Part of a name → what such tensors are, and what to do.
KINDS = {
    "lora_": ("an adapter that is not merged", "merge it (peft: `merge_and_unload`) and save the model again"),
    "adapter": ("an adapter that is not merged", "merge it and save the model again"),
    "distance_embedding": (
        "relative positions, which transformers 5 does not compute",
        "train a model with absolute positions",
    ),
    "crossattention": ("the attention of a decoder", "take an encoder"),
}
Known = TypeVar("Known")
PRETRAINING = {MADE_FOR[kind] for kind in PRETRAINED}
REMOVE = "remove them if the model answers the same without them"


def match(path: Path, model: Any, *, headless: bool = False) -> dict[str, str]:
    """Find for every tensor of a file the weight of a model that it is.

    Args:
        path: a safetensors file.
        model: a classifier, on the meta device or not.
        headless: whether the file must lack the classifier, and may lack what lies between it and the encoder.

    Returns:
        Name in the file → name in the model's state dict, for all that the model uses.

    Raises:
        InputError: a weight without tensor, a tensor without weight, two tensors for one weight, another shape, a
            tensor that is no floating point, or a file in another library's layout.
    """
    weights = model.state_dict(keep_vars=True)
    with safe_open(path, "pt") as file:
        layout = (file.metadata() or {}).get("format")
        if layout not in LAYOUTS:
            raise InputError(f"'{path}' has weights in the layout of '{layout}'", expected="PyTorch's")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        _check_positions(path, file)
    heads = [name for name in slices if name.startswith(tuple(family_of(model.config).unused))]
    matched, unused = _resolve(path, [name for name in slices if name not in heads], weights, model.base_model_prefix)
    if headless:
        _require_no_head(path, matched, model)
    _require_all(path, matched, unused, heads, weights, model, headless)
    if unused:
        raise _unused(path, unused)
    for name, target in matched.items():
        _check_kind(path, name, slices[name], weights[target])
    return matched


def require_finite(directory: Path, model: Any) -> None:
    """Refuse a model with a weight that is no number: it answers nothing, or one class for all.

    Raises:
        InputError: names the weight.
    """
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"'{directory}' has a weight that is no finite number ('{name}')", expected="finite ones")


def _resolve(
    path: Path, names: Iterable[str], weights: Mapping[str, Any], prefix: str
) -> tuple[dict[str, str], list[str]]:
    matched: dict[str, str] = {}
    taken: dict[int, str] = {}
    unused: list[str] = []
    for name in names:
        target = _target(name, weights, prefix)
        if target is None:
            unused += [] if POSITIONS.fullmatch(name) else [name]
            continue
        if id(weights[target]) in taken:
            both = f"'{taken[id(weights[target])]}' and '{name}'"
            raise InputError(f"'{path}' has {both} for one weight ('{target}')", expected="one of them")
        taken[id(weights[target])], matched[name] = name, target
    return matched, unused


def _target(name: str, weights: Mapping[str, Any], prefix: str) -> str | None:
    """Name the weight as transformers would: the encoder's prefix may be missing, norms may have their old names."""
    for legacy, today in LEGACY.items():
        name = name.replace(legacy, today) if name.endswith(legacy) else name
    return next((one for one in (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")) if one in weights), None)


def _require_all(
    path: Path,
    matched: Mapping[str, str],
    unused: list[str],
    heads: list[str],
    weights: Mapping[str, Any],
    model: Any,
    headless: bool,
) -> None:
    present = {id(weights[target]) for target in matched.values()}
    asked = (one for one in weights if not (headless and _of_head(one, model.base_model_prefix)))
    missing = sorted(name for name in asked if id(weights[name]) not in present)
    if not missing:
        return
    wrapped = next((name for name in unused for weight in missing if name.endswith(f".{weight}")), None)
    if wrapped is not None:
        weight = max((one for one in missing if wrapped.endswith(f".{one}")), key=len)
        outer = wrapped.removesuffix(weight)
        raise InputError(
            f"'{path}' calls its weights '{outer}…' (as '{wrapped}')",
            expected=f"'{weight}'",
            next_step="save the model itself, not what it is wrapped in",
        )
    raise _missing(path.parent, missing, [*unused, *heads], model, headless)


def _of_head(name: str, prefix: str) -> bool:
    """Whether a weight is none of the encoder proper: the pooler of one that was left out is made anew."""
    return not name.startswith(f"{prefix}.") or name.startswith(f"{prefix}.pooler.")


def _require_no_head(path: Path, matched: Mapping[str, str], model: Any) -> None:
    head = family_of(model.config).head
    found = next((name for name, target in matched.items() if target.startswith(f"{head}.")), None)
    if found is not None:
        raise InputError(
            f"'{path}' has a trained head already ('{found}')", expected="a pretrained encoder", next_step=TRAINED
        )


def _missing(directory: Path, missing: list[str], others: list[str], model: Any, headless: bool) -> InputError:
    what = _known(others, TENSORS, str.startswith) or (_known(others, KINDS, _holds) or ("",))[0]
    if all(".pooler." in name or name.startswith("pre_classifier.") for name in missing):
        what = "a token classifier, which labels every word"
    said = f": it is {what}" if what else f" and has '{others[0]}' instead" if others else ""
    pretrained = what in PRETRAINING if others else family_of(model.config).decoder is None
    lacks_head = all(_of_head(name, model.base_model_prefix) for name in missing)
    return InputError(
        f"checkpoint '{directory}' lacks weights '{missing[0]}'{said}",
        expected="a whole encoder" if headless else "a classifier with a trained head",
        next_step=FINETUNE.format(place=directory) if pretrained and lacks_head else "",
    )


def _unused(path: Path, unused: list[str]) -> InputError:
    unused = sorted(unused)
    kind, remedy = _known(unused, KINDS, _holds) or ("another head, or a part of another model", REMOVE)
    more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
    shown = ", ".join(f"'{name}'" for name in unused[:SHOWN])
    return InputError(
        f"'{path}' has tensors that the model of config.json does not use: {shown}{more}",
        expected=f"none: they look like {_known(unused, TENSORS, str.startswith) or kind}",
        next_step=remedy,
    )


def _known(names: Iterable[str], known: Mapping[str, Known], fits: Callable[[str, str], bool]) -> Known | None:
    """Look up the first entry that fits a name."""
    return next((what for part, what in known.items() for name in names if fits(name, part)), None)


def _holds(name: str, part: str) -> bool:
    return part in name


def _check_kind(path: Path, name: str, given: Any, weight: torch.Tensor) -> None:
    if given.get_dtype() not in FLOATS:
        raise InputError(f"'{path}' has tensor '{name}' of {given.get_dtype()}", expected="floating point weights")
    if tuple(given.get_shape()) != tuple(weight.shape):
        raise InputError(
            f"'{path}' has tensor '{name}' of shape {list(given.get_shape())}",
            expected=f"{list(weight.shape)}, as config.json describes",
            next_step="take the config.json and the weights that were saved together",
        )


def _check_positions(path: Path, file: Any) -> None:
    """Positions are counted from 0; a file that numbers them otherwise was made by a model that reads its numbers."""
    for name in file.keys():  # noqa: SIM118 (no mapping)
        if POSITIONS.fullmatch(name):
            found = file.get_tensor(name).flatten()
            if not torch.equal(found.to(torch.float64), torch.arange(len(found), dtype=torch.float64)):
                raise InputError(f"'{path}' has '{name}' that do not count from 0", expected="0, 1, 2, …")
