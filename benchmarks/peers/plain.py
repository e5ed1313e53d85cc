"""The scripts somebody would write by hand: litert-torch with ai-edge-quantizer, and coremltools.

    python -m benchmarks.peers.plain --tool litert --checkpoint DIRECTORY --out DIRECTORY

One fixed length, one process, no check of anything: the shortest that works.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

LENGTH = 32
MASKED = -1e4
PRODUCTS = {
    "litert": ("fp32.tflite", "dynamic_wi8_afp32.tflite"),
    "coreml": ("fp16.mlpackage", "weight_only_wi8.mlpackage"),
}
"""Tool → files it writes, named after our precisions."""


def load(checkpoint: Path) -> Any:
    """Wrap a classifier, with the additive mask that converters want in place of Hugging Face's own."""
    import torch
    from transformers import AutoModelForSequenceClassification

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModelForSequenceClassification.from_pretrained(checkpoint, attn_implementation="eager")

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            additive = (1.0 - attention_mask.to(torch.float32)) * MASKED
            return self.model(input_ids=input_ids, attention_mask=additive[:, None, None, :]).logits

    return Wrapped().eval()


def litert(checkpoint: Path, out: Path) -> None:
    """Write `PRODUCTS["litert"]`."""
    import litert_torch
    import torch
    from ai_edge_quantizer import quantizer, recipe

    example = tuple(torch.ones((1, LENGTH), dtype=torch.int32) for _ in range(2))
    full, integer = (out / name for name in PRODUCTS["litert"])
    litert_torch.convert(load(checkpoint), example).export(str(full))
    lowering = quantizer.Quantizer(str(full), recipe.dynamic_wi8_afp32())
    lowering.quantize().export_model(str(integer), overwrite=True)


def coreml(checkpoint: Path, out: Path) -> None:
    """Write `PRODUCTS["coreml"]`."""
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    import torch

    example = tuple(torch.ones((1, LENGTH), dtype=torch.int32) for _ in range(2))
    half, integer = (out / name for name in PRODUCTS["coreml"])
    # A trace of a BERT fails in coremltools 9 beside numpy 2.4.
    program = torch.export.export(load(checkpoint), example).run_decompositions({})
    model = ct.convert(program, minimum_deployment_target=ct.target.iOS18)
    model.save(str(half))
    settings = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    cto.linear_quantize_weights(model, settings).save(str(integer))


def main() -> int:
    """Run one tool."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tool", choices=sorted(PRODUCTS), required=True)
    for name in ("checkpoint", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    {"coreml": coreml, "litert": litert}[arguments.tool](arguments.checkpoint, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
