"""config.json of language models, as the versions of transformers that published them wrote it."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages.core.errors import InputError
from stages.models.families import find
from stages.models.families.llama import frequencies
from stages.models.settings import adopt
from stages.tasks.generate.model import HEAD

SIZES = {"vocab_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
LLAMA = {
    **SIZES,
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.35.0",
    "use_cache": True,
}
STRETCHED = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 16,
    "rope_type": "llama3",
}
PUBLISHED = {
    "TinyLlama": LLAMA,
    "SmolLM2": LLAMA
    | {"is_llama_config": True, "rope_interleaved": False, "rope_theta": 100000, "tie_word_embeddings": True}
    | {"pad_token_id": 2, "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}}, "mlp_bias": False},
    "Llama 3.2": LLAMA
    | {"rope_scaling": STRETCHED, "rope_theta": 500000.0, "head_dim": 16, "eos_token_id": [2, 3], "mlp_bias": False},
    "long": LLAMA | {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "Qwen 2.5": {name: value for name, value in LLAMA.items() if name not in ("attention_bias", "pretraining_tp")}
    | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "max_window_layers": 24, "sliding_window": 32768}
    | {"use_sliding_window": False, "use_mrope": False, "rope_theta": 1000000.0, "tie_word_embeddings": True},
    "Qwen 3": {name: value for name, value in LLAMA.items() if name != "pretraining_tp"}
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "max_window_layers": 28, "sliding_window": None}
    | {"use_sliding_window": False, "head_dim": 16, "hidden_size": 48, "rms_norm_eps": 1e-06, "rope_theta": 1000000},
    "OPT": {
        **SIZES,
        "_name_or_path": "opt",
        "_remove_final_layer_norm": False,
        "activation_dropout": 0.0,
        "activation_function": "relu",
        "architectures": ["OPTForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "do_layer_norm_before": True,
        "dropout": 0.1,
        "eos_token_id": 2,
        "ffn_dim": 96,
        "hidden_size": 64,
        "init_std": 0.02,
        "layerdrop": 0.0,
        "model_type": "opt",
        "pad_token_id": 1,
        "prefix": "</s>",
        "torch_dtype": "float16",
        "word_embed_proj_dim": 64,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_taken_in_and_means_what_transformers_reads(name, tmp_path):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED[name]), encoding="utf-8")
    wanted = AutoConfig.from_pretrained(tmp_path)
    adopt(path, HEAD)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    model.save_pretrained(tmp_path)
    read = find(wanted.model_type).decoder(
        json.loads(path.read_text(encoding="utf-8")), load_file(tmp_path / "model.safetensors")
    )
    assert (read.heads, read.head_size, read.context) == (4, 16, 64)
    if read.frequencies is not None:
        turned = AutoModelForCausalLM.from_config(wanted).model.rotary_emb.inv_freq
        np.testing.assert_allclose(read.frequencies, turned.numpy(), rtol=3e-7)


def test_kinds_of_stretched_positions_are_told_apart():
    def turned(**kind):
        return frequencies({"rope_parameters": {"rope_theta": 10000.0, **kind}}, 16)

    plain, long, blended = (
        turned(),
        turned(rope_type="linear", factor=4.0),
        turned(**STRETCHED | {"original_max_position_embeddings": 64}),
    )
    assert np.array_equal(long * 4, plain)
    # The fastest turn is as it was, the slowest is stretched whole.
    assert (blended[0], blended[-1] * 32) == (plain[0], plain[-1])


@pytest.mark.parametrize(
    ("base", "changes", "said"),
    [
        ("TinyLlama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.*expected rotary positions"),
        ("TinyLlama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "kind of default, linear, llama3"),
        ("TinyLlama", {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling"),
        ("TinyLlama", {"rope_scaling": STRETCHED | {"factor": 0}}, "rope_scaling"),
        ("TinyLlama", {"rope_theta": 0}, "rope_theta: 0; expected a number above 0"),
        ("TinyLlama", {"rope_theta": True}, "rope_theta: true"),
        ("TinyLlama", {"eos_token_id": [2, "3"]}, "eos_token_id.*a token id, or a list of those that end a text"),
        ("SmolLM2", {"rope_interleaved": True}, "rope_interleaved: true; expected false"),
        ("Qwen 2.5", {"use_sliding_window": True}, "use_sliding_window: true; expected false"),
        ("Qwen 3", {"use_sliding_window": True, "sliding_window": 8}, "use_sliding_window: true; expected false"),
        ("Qwen 2.5", {"layer_types": ["full_attention", "sliding_attention"]}, "full_attention in every layer"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(base, changes, said, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED[base] | changes), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        adopt(path, HEAD)


@pytest.mark.parametrize("name", ["gemma3_text", "mistral", "gpt2"])
def test_a_causal_family_that_is_not_known_is_refused_beside_the_names_of_those_that_are(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"model_type": name}), encoding="utf-8")
    with pytest.raises(InputError, match=f"of family '{name}'; expected one of: llama, opt, qwen2, qwen3$"):
        adopt(tmp_path / "config.json", HEAD)
