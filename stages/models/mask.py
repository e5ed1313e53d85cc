"""Choose the constant that the export module subtracts from the attention scores of padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.models.encode import Encoded, logits
from stages.models.examples import Pick
from stages.models.export import ExportModule
from stages.models.families import family_of

# Doubling, with a step between. Ends below the largest fp16 (65504): Core ML computes the mask in half precision.
LADDER = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384, 32768)
LEAK_TOLERANCE = 1e-6
AGREEMENT_TOLERANCE = 1e-4

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class MaskCalibration:
    """A mask constant and what it was measured to do, both errors over the spread of the logits.

    Attributes:
        constant: what `ExportModule` takes.
        leak: largest change of a logit when the ids under the mask change.
        disagreement: largest difference of a logit to the stock Hugging Face forward without padding.
    """

    constant: float
    leak: float
    disagreement: float


def calibrate(model: Any, encoded: Encoded, items: Pick, pad_token_id: int, *, seed: int = 0) -> MaskCalibration:
    """Find the smallest constant that hides padding, and take the next one as margin.

    A constant that is too small lets padding speak; one that is too large (-1e4 is common) stretches the int8
    grid of the attention scores until nothing else is left on it: top-1 falls from .85 to .10.

    Args:
        model: the checkpoint in eval mode.
        encoded: calibration utterances, padded to the maximum length.
        items: picks what is compared: what a model answers on padding means nothing.
        pad_token_id: never drawn as a replacement.
        seed: of the ids that replace padding.

    Raises:
        InputError: no constant on the ladder, its last one aside, hides padding; or all logits are equal.
    """
    # One at a time: a wider batch would pad the stock forward too.
    stock = items(logits(model, encoded, batch_size=1), encoded.attention_mask)
    spread = float(stock.std())
    if not np.isfinite(spread) or spread == 0:
        raise InputError(f"the checkpoint's logits have spread {spread}", expected="a model that tells inputs apart")
    disturbed = disturb_padding(model.config, encoded, pad_token_id, seed)
    measured: list[MaskCalibration] = []
    for constant in LADDER:
        measured.append(_measure(model, float(constant), encoded, disturbed, items, stock))
        if len(measured) > 1 and _hides_padding(measured[-2]) and _hides_padding(measured[-1]):
            return measured[-1]
    best = min(measured, key=lambda one: (one.leak, one.disagreement))
    raise InputError(
        f"no mask constant up to {LADDER[-1]:g} hides padding: at {best.constant:g} logits change by {best.leak:.1e} "
        f"and differ from the stock forward by {best.disagreement:.1e} of their spread",
        expected=f"at most {LEAK_TOLERANCE:g} and {AGREEMENT_TOLERANCE:g}",
    )


def neutralise_padding(model: Any, pad_token_id: int) -> bool:
    """Zero the padding token's embedding where it reaches into the text.

    MobileBERT embeds every token together with its neighbours (`trigram_input`), past the last token with zeros. With
    a padding embedding other than zero, as in checkpoints converted from TensorFlow, the same text has other logits
    in a longer signature, and no mask can help.

    Args:
        model: the checkpoint, changed in place.
        pad_token_id: row of the embedding.

    Returns:
        Whether anything changed.
    """
    if not family_of(model.config).reach(model.config):
        return False
    row = model.get_input_embeddings().weight.data[pad_token_id]
    if not bool(row.any()):
        return False
    row.zero_()
    return True


def disturb_padding(config: Any, encoded: Encoded, pad_token_id: int, seed: int) -> Encoded:
    """Replace the ids under the mask by random vocabulary ids.

    Where embeddings read neighbours, the first padding position is an input of the model and stays as it is.
    """
    reach = family_of(config).reach(config)
    width = encoded.input_ids.shape[1]
    hidden = np.arange(width)[None, :] >= encoded.lengths[:, None] + reach
    drawn = np.random.default_rng(seed).integers(0, config.vocab_size - 1, encoded.input_ids.shape, dtype=np.int32)
    drawn += drawn >= pad_token_id
    return Encoded(np.where(hidden, drawn, encoded.input_ids), encoded.attention_mask, encoded.truncated)


def export_logits(module: ExportModule, encoded: Encoded, batch_size: int = 64) -> FloatArray:
    """Run the module converters see at the full padded length: float32 [n, …, classes], as it gives them."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(encoded), batch_size):
            rows = slice(start, start + batch_size)
            ids, mask = torch.from_numpy(encoded.input_ids[rows]), torch.from_numpy(encoded.attention_mask[rows])
            parts.append(module(ids, mask).numpy())
    return np.concatenate(parts)


def _measure(
    model: Any, constant: float, encoded: Encoded, disturbed: Encoded, items: Pick, stock: FloatArray
) -> MaskCalibration:
    module = ExportModule(model, constant, encoded.input_ids.shape[1]).eval()
    spread = float(stock.std())
    found, other = (items(export_logits(module, one), one.attention_mask) for one in (encoded, disturbed))
    leak = float(np.abs(other - found).max()) / spread
    return MaskCalibration(constant, leak, float(np.abs(found - stock).max()) / spread)


def _hides_padding(measured: MaskCalibration) -> bool:
    # Written so that NaN does not pass.
    return measured.leak <= LEAK_TOLERANCE and measured.disagreement <= AGREEMENT_TOLERANCE
