"""The executor against torch: what the same weights compute, over every encoder family and two decoders."""

import copy

import numpy as np
import pytest

from benchmarks.coreml_edit import relative_error
from stages.coreml import open_program
from stages.models import families
from tests.toys.decoders import seeded

pytestmark = pytest.mark.target
LENGTH = 12
ENCODERS = families.encoders()
DECODERS = {
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
    },
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "word_embed_proj_dim": 32,
    },
}


def decoder(family):
    import torch
    from transformers import AutoConfig

    config = AutoConfig.for_model(family, vocab_size=49, max_position_embeddings=32, **DECODERS[family])
    model, random = seeded(config, 0), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=random)

    class Decoder(torch.nn.Module):
        """Ids in, logits out; the causal mask and positions are constants, which every converter understands."""

        def __init__(self, model):
            super().__init__()
            self.model = model
            self.register_buffer("mask", torch.triu(torch.full((LENGTH, LENGTH), -1e4), 1)[None, None])
            self.register_buffer("positions", torch.arange(LENGTH)[None])

        def forward(self, input_ids):
            found = self.model(
                input_ids=input_ids, attention_mask=self.mask, position_ids=self.positions, use_cache=False
            )
            return found.logits

    return Decoder(model).eval()


def build(family, make_model):
    """Return the module to convert and its inputs by name."""
    import torch

    from stages.models.export import ExportModule

    ids = torch.from_numpy(np.random.default_rng(1).integers(5, 49, (1, LENGTH)).astype(np.int32))
    if family in DECODERS:
        return decoder(family), {"input_ids": ids}
    mask = torch.ones_like(ids)
    mask[:, -3:] = 0
    return ExportModule(make_model(family), 1e4).eval(), {"input_ids": ids, "attention_mask": mask}


def convert(module, inputs, precision):
    import torch

    from stages.targets.coreml_metal import toolchain

    ct = toolchain.load_with_torch()
    with torch.no_grad():
        traced = torch.jit.trace(module, tuple(inputs.values()), check_trace=False)
    return ct.convert(
        traced,
        inputs=[ct.TensorType(name=name, shape=tuple(value.shape), dtype=np.int32) for name, value in inputs.items()],
        outputs=[ct.TensorType(name="logits", dtype=np.float32)],
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision[precision],
        skip_model_load=True,
    )


@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS])
def test_it_computes_what_torch_computes_with_the_same_weights(family, make_model, tmp_path):
    import torch

    module, inputs = build(family, make_model)
    halved = copy.deepcopy(module)
    for parameter in halved.parameters():
        parameter.data = parameter.data.half().float()
    for precision, reference, bound in (("FLOAT32", module, 1e-6), ("FLOAT16", halved, 2e-4)):
        package = tmp_path / f"{precision}.mlpackage"
        convert(module, inputs, precision).save(str(package))
        with torch.no_grad():
            expected = reference.double()(*inputs.values()).numpy()  # fp32 torch is itself 1e-6 off
        found = open_program(package).run({name: value.numpy() for name, value in inputs.items()}, "exact")["logits"]
        error = relative_error(found, expected)
        print(f"{family} {precision} {error:.1e}")
        assert error < bound
