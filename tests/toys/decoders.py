"""Random causal language models of every shape that a writer may meet, with weights that matter."""

import json

STRETCHED = {
    "rope_theta": 1e4,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
"""Rotary positions stretched as Llama 3's."""


def tiny_llama(**changes):
    from transformers import LlamaConfig

    sizes = {
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    return LlamaConfig(**sizes | {"max_position_embeddings": 64, "rms_norm_eps": 1e-5} | changes)


def tiny_opt(**changes):
    from transformers import OPTConfig

    sizes = {"vocab_size": 99, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return OPTConfig(**sizes | {"max_position_embeddings": 64, "word_embed_proj_dim": 32} | changes)


def tiny_qwen2(**changes):
    from transformers import Qwen2Config

    return Qwen2Config(**tiny_llama(**changes).to_dict() | {"model_type": "qwen2"})


def tiny_qwen3(**changes):
    from transformers import Qwen3Config

    return Qwen3Config(**tiny_llama(**changes).to_dict() | {"model_type": "qwen3"})


def seeded(config, seed):
    """Make a model of transformers in eval mode, with the weights that a seed gives, whatever was drawn before."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def random_llama(seed, **changes):
    """Make a LLaMA of two layers, four heads in two groups and one table for lookup and head."""
    sizes = {"intermediate_size": 40, "num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8}
    told = {"max_position_embeddings": 48, "tie_word_embeddings": True, "initializer_range": 0.3}
    return seeded(tiny_llama(**{**sizes, **told, "rms_norm_eps": 1e-6, **changes}), seed)


def read(config, directory, change=lambda model: None):
    """Make a model of transformers, change its weights, save it, and read it as writers get it."""
    import torch
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    from stages.models.families import family_of

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    with torch.no_grad():
        change(model)
    model.save_pretrained(directory)
    found = json.loads((directory / "config.json").read_text("utf-8"))
    return model, family_of(found).decoder(found, load_file(directory / "model.safetensors"))


def forward(model, ids):
    """Return the logits at every position of a text, of one forward pass."""
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.from_numpy(ids).long()[None]).logits[0].numpy()
