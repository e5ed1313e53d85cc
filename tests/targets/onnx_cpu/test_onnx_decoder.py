"""Tests of `stages/targets/onnx_cpu/decoder.py`: written graphs answer as transformers does, in one call or in many."""

import numpy as np
import pytest

from tests.toys.decoders import STRETCHED, forward, read, tiny_llama, tiny_opt, tiny_qwen2, tiny_qwen3

pytestmark = pytest.mark.target

LENGTH = 24


CASES = [
    tiny_llama(num_key_value_heads=2, head_dim=8, tie_word_embeddings=True),
    tiny_llama(num_key_value_heads=1, head_dim=16, attention_bias=True, mlp_bias=True),
    tiny_llama(num_key_value_heads=4, head_dim=64, rope_parameters={"rope_type": "default", "rope_theta": 1e5}),
    tiny_llama(num_key_value_heads=2, rope_parameters=STRETCHED, head_dim=16),
    tiny_qwen2(num_key_value_heads=2, tie_word_embeddings=True),
    tiny_qwen3(num_key_value_heads=2, head_dim=16, tie_word_embeddings=True),
    tiny_qwen3(num_key_value_heads=1, head_dim=24, attention_bias=True),
    tiny_opt(),
    tiny_opt(do_layer_norm_before=False, word_embed_proj_dim=16),
    tiny_opt(activation_function="gelu", enable_bias=False, tie_word_embeddings=False),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda config: config.model_type)
def pair(request, tmp_path_factory):
    """A model of transformers with weights that matter, and the graph written from its files."""
    from stages.targets.onnx_cpu.decoder import build

    model, decoder = read(request.param, tmp_path_factory.mktemp("decoder"))
    return model, decoder, build(decoder, 20)


class Asked:
    """A session that keeps its cache."""

    def __init__(self, graph, groups, size):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [item.name for item in self.session.get_inputs() if item.name.startswith("past")]
        self.past = {name: np.zeros((1, groups, 0, size), np.float32) for name in names}
        self.seen = 0

    def __call__(self, ids):
        self.seen += len(ids)
        given = {"input_ids": np.asarray([ids], np.int64), "attention_mask": np.ones((1, self.seen), np.int64)}
        logits, *present = self.session.run(None, given | self.past)
        self.past = dict(zip(self.past, present, strict=True))
        return logits[0, -1]


@pytest.mark.parametrize(
    "cuts", [[LENGTH], [1] * LENGTH, [7, 1, 1, 9, 6]], ids=["at once", "token by token", "in parts"]
)
def test_a_text_in_parts_ends_in_the_answers_of_one_forward_pass(pair, cuts):
    model, decoder, graph = pair
    ids = np.random.default_rng(3).integers(3, decoder.vocabulary, LENGTH)
    wanted = forward(model, ids)
    ask, at = Asked(graph, decoder.groups, decoder.head_size), 0
    for cut in cuts:
        found, at = ask(ids[at : at + cut]), at + cut
        assert np.abs(found - wanted[at - 1]).max() < 1e-5 * wanted.std()


def test_a_tied_table_is_stored_once(pair):
    _, decoder, graph = pair
    tables = [
        item.name
        for item in graph.graph.initializer
        if list(item.dims) in ([99, decoder.words.shape[1]], [decoder.words.shape[1], 99])
    ]
    assert len(tables) == (1 if decoder.head is None else 2)


def test_weights_are_called_as_in_the_checkpoint(pair):
    model, _, graph = pair
    known = {name.removeprefix("model.").removeprefix("decoder.") for name in model.state_dict()}
    constants = {"zero", "one", "two", "end", "epsilon", "last_axis", "second_axis", "cosine", "sine"}
    constants |= {"apart", "joined"}  # shapes of heads that are normalised
    assert {item.name for item in graph.graph.initializer} - constants <= known
