"""The one module every converter sees: integer ids and mask in, logits out, no mask machinery inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stages.core import artifact
from stages.models.checkpoint import load_model
from stages.models.families import family_of


class ExportModule(torch.nn.Module):
    """A classifier whose attention mask is one subtraction and one multiplication.

    Before: Hugging Face builds the mask with casts to bool, gathers and selects, which NNAPI has no kernels for
    and coremltools 9 cannot convert. After: `(mask - 1) * mask_constant`, shape [batch, 1, 1, length], which
    Hugging Face adds to the attention scores as it is. Where layers differ in what they see it takes one such tensor
    per kind of attention; of a kind with a window, [batch, 1, length, length], tokens out of sight count as padding.

    The class name and module path enter tensor names, hence the bytes of every artifact: renaming is a rebuild.
    """

    def __init__(self, model: Any, mask_constant: float, length: int | None = None) -> None:
        """Wrap a classifier.

        Args:
            model: a Hugging Face sequence classifier in eval mode.
            mask_constant: positive; subtracted from the scores of padded positions. Large enough that softmax
                gives them nothing, small enough that int8 activations keep a useful step.
            length: tokens of the longest input; as many as the model has positions by default.
        """
        super().__init__()
        self.model = model
        self.mask_constant = mask_constant
        self.family = family_of(model.config)
        self.position_ids: torch.Tensor | None
        counted = self.family.position_ids(model.config)
        given = None if counted is None else torch.from_numpy(counted)[None]
        self.register_buffer("position_ids", given, persistent=False)
        self.attentions = self.family.attentions(model.config)
        for kind, attention in self.attentions.items():
            if attention.window is not None:
                places = torch.arange(length or self.family.positions(model.config))
                near = (places[:, None] - places).abs() <= attention.window
                self.register_buffer(f"near_{kind}", near.to(torch.float32)[None], persistent=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, labels] for int32 ids and mask [batch, length]."""
        # Core ML's tracer numbers values in this order and calls them what they are called here: the bytes have both.
        additive = (attention_mask.to(torch.float32) - 1.0) * self.mask_constant
        # Where positions are counted by what is no padding, the model would count with operators that NNAPI lacks.
        given = {} if self.position_ids is None else {"position_ids": self.position_ids[:, : input_ids.shape[1]]}
        masks = {
            kind: additive[:, None, None, :] if attention.window is None else self._windowed(attention_mask, kind)
            for kind, attention in self.attentions.items()
        }
        if "" in masks:
            return self.model(input_ids=input_ids, attention_mask=masks[""], **given).logits
        with self._told(masks):  # the encoder, while a head that pools over a text reads the mask of 1 and 0
            return self.model(input_ids=input_ids, attention_mask=attention_mask.to(torch.float32), **given).logits

    @contextmanager
    def _told(self, masks: Mapping[str, torch.Tensor]) -> Iterator[None]:
        def tell(_encoder: Any, arguments: Any, named: Any) -> Any:
            return arguments, {**named, "attention_mask": masks}

        hook = self.model.base_model.register_forward_pre_hook(tell, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _windowed(self, attention_mask: torch.Tensor, kind: str) -> torch.Tensor:
        near, length = self.get_buffer(f"near_{kind}"), attention_mask.shape[1]
        seen = attention_mask.to(torch.float32)[:, None, None, :] * near[:, :length, :length]
        return (seen - 1.0) * self.mask_constant


class Turns(torch.nn.Module):
    """The cosines and sines that rotary positions are turned by, looked up: half precision cannot compute them.

    Before: `cos(position × frequency)` of positions that the graph counts. After: rows of a table in fp32.
    """

    def __init__(self, rotary: Any, kinds: Iterable[str], length: int) -> None:
        """Ask a model's own module for the rows of `length` positions, by kind of attention."""
        super().__init__()
        counted = torch.arange(length)[None]
        for kind in kinds:
            cosines, sines = rotary(torch.zeros(()), counted, *filter(None, [kind]))
            self.register_buffer(f"cosines_{kind}", cosines, persistent=False)
            self.register_buffer(f"sines_{kind}", sines, persistent=False)

    def forward(self, hidden: torch.Tensor, _positions: torch.Tensor, kind: str = "") -> tuple[torch.Tensor, ...]:
        """Return cosines and sines, [1, length, head size], for hidden states [batch, length, width]."""
        return tuple(self.get_buffer(f"{name}_{kind}")[:, : hidden.shape[1]] for name in ("cosines", "sines"))


def load_export_module(checkpoint: Path, length: int | None = None) -> ExportModule:
    """Load a compressed checkpoint as the module to convert.

    Args:
        checkpoint: output of `compress`; its `profile.json` holds the calibrated mask constant.
        length: tokens of the longest input; as many as the model has positions by default.
    """
    profile, model = artifact.read_json(checkpoint / "profile.json"), load_model(checkpoint)
    family = family_of(model.config)
    length = length or family.positions(model.config)
    if family.rotary:
        own = model.base_model.get_submodule(family.rotary)
        model.base_model.set_submodule(family.rotary, Turns(own, family.attentions(model.config), length))
    module = ExportModule(model, float(profile["mask_constant"]), length)
    module.eval()
    return module
