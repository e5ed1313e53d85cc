"""Why `tflite-nnapi` is quantised by ai-edge-quantizer: torchao's way to dynamic int8 makes files that cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.core.errors import ArtifactError
from stages.targets.tflite_nnapi.flatbuffer import MODEL
from stages.targets.tflite_nnapi.runtime import open_runtime
from stages.tasks.base import FORWARD, INPUTS
from tests.targets.running import sign

pytestmark = pytest.mark.target


def quantised_by_torchao(out: Path, *, dynamic: bool) -> Path:
    """An embedding and a linear layer, through PT2E and litert-torch."""
    import litert_torch
    import torch
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = torch.nn.Embedding(64, 16), torch.nn.Linear(16, 5)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.head(self.table(input_ids)).mean(dim=1) + attention_mask.sum().float()}

    example = {name: torch.ones((1, 8), dtype=torch.int32) for name in INPUTS}
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic))
    prepared = prepare_pt2e(torch.export.export(Classifier().eval(), (), example).module(), quantizer)
    prepared(**example)
    quantised, settings = convert_pt2e(prepared, fold_quantize=False), QuantConfig(pt2e_quantizer=quantizer)
    converter = litert_torch.signature("length_8", quantised, sample_kwargs=example)
    converter.convert(quant_config=settings).export(str(out / MODEL))
    sign(out, 8)
    return out


def test_dynamic_files_of_pt2e_cannot_run_and_are_refused(tmp_path: Path) -> None:
    # When this fails, a newer torchao or LiteRT can: PT2E would be a way to train for tflite-nnapi then.
    with pytest.raises(ArtifactError, match=r"LiteRT cannot run .*zero_point->data\[0\] == 0 was not true"):
        run(quantised_by_torchao(tmp_path, dynamic=True))


def test_static_files_of_pt2e_run(tmp_path: Path) -> None:
    assert run(quantised_by_torchao(tmp_path, dynamic=False)).shape == (1, 5)


def run(artifact: Path) -> NDArray[np.float32]:
    ones = {name: np.ones((1, 8), np.int32) for name in INPUTS}
    return open_runtime(artifact, threads=1).run(FORWARD, ones)["logits"]
