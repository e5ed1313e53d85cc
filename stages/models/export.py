"""The one module every converter sees: integer ids and mask in, logits out, no mask machinery inside."""

from __future__ import annotations

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
    Hugging Face adds to the attention scores as it is.

    The class name and module path enter tensor names, hence the bytes of every artifact: renaming is a rebuild.
    """

    def __init__(self, model: Any, mask_constant: float) -> None:
        """Wrap a classifier.

        Args:
            model: a Hugging Face sequence classifier in eval mode.
            mask_constant: positive; subtracted from the scores of padded positions. Large enough that softmax
                gives them nothing, small enough that int8 activations keep a useful step.
        """
        super().__init__()
        self.model = model
        self.mask_constant = mask_constant
        self.position_ids: torch.Tensor | None
        counted = family_of(model.config).position_ids(model.config)
        given = None if counted is None else torch.from_numpy(counted)[None]
        self.register_buffer("position_ids", given, persistent=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, labels] for int32 ids and mask [batch, length]."""
        additive = (attention_mask.to(torch.float32) - 1.0) * self.mask_constant
        # Where positions are counted by what is no padding, the model would count with operators that NNAPI lacks.
        given = {} if self.position_ids is None else {"position_ids": self.position_ids[:, : input_ids.shape[1]]}
        return self.model(input_ids=input_ids, attention_mask=additive[:, None, None, :], **given).logits


def load_export_module(checkpoint: Path) -> ExportModule:
    """Load a compressed checkpoint as the module to convert.

    Args:
        checkpoint: output of `compress`; its `profile.json` holds the calibrated mask constant.
    """
    profile = artifact.read_json(checkpoint / "profile.json")
    module = ExportModule(load_model(checkpoint), float(profile["mask_constant"]))
    module.eval()
    return module
