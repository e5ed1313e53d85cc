"""Small GGUF files of a two-layer LLaMA, written by the `gguf` package, and what they hold."""

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, dequantize, quantize
from tokenizers.pre_tokenizers import ByteLevel

WIDTH, INNER, HEADS, GROUPS, LAYERS, POSITIONS = 64, 96, 4, 2, 2, 48
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = ("<tool>", "[[x]]")
# Of letters that stand for bytes: Ġ is a space, Ċ a line break, Ã© and Ù£ are é and ٣, Ìģ is a combining accent.
MERGES = """Ġ Ġ|ĠĠ ĠĠ|1 2|2 3|12 3|Ġ 1|Ġ 5|5 5|Ġ t|h e|Ġt he|l l|' s|' ll|Ã ©|c a|ca f|Ċ Ċ|Ċ Ġ|a b|Ġ a|! !|Ġ !|Â ²
Ù £|Ù£ Ù£|e Ì|eÌ ģ|Ì ģ|Â ł|T H|' S""".replace("\n", "|").split("|")
WORDS = ("hello",)  # no merges lead there
BYTES = sorted(ByteLevel.alphabet())
TOKENS = [*CONTROL, *BYTES, *(merge.replace(" ", "") for merge in MERGES), *WORDS, *USER_DEFINED, "[PAD0]"]
KINDS = [3] * len(CONTROL) + [1] * (len(BYTES) + len(MERGES) + len(WORDS)) + [4] * len(USER_DEFINED) + [5]
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
SETTINGS = {
    "llama.block_count": LAYERS,
    "llama.context_length": POSITIONS,
    "llama.embedding_length": WIDTH,
    "llama.feed_forward_length": INNER,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": GROUPS,
    "llama.rope.freq_base": 50000.0,
    "llama.rope.dimension_count": WIDTH // HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.vocab_size": len(TOKENS),
    "general.name": "two layers",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": KINDS,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.padding_token_id": 2,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": TEMPLATE,
}
"""Key → value of a sound file."""
LLAMA_CPP = json.loads(Path(__file__).with_name("gguf_llama_cpp.json").read_text(encoding="utf-8"))
"""`tokenizer.ggml.pre` → text → what llama.cpp (0c1e57098, `llama_vocab::tokenize`) makes of it with TOKENS."""
NAMES = {
    "attn_norm": ("input_layernorm", (WIDTH,)),
    "attn_q": ("self_attn.q_proj", (WIDTH, WIDTH)),
    "attn_k": ("self_attn.k_proj", (GROUPS * WIDTH // HEADS, WIDTH)),
    "attn_v": ("self_attn.v_proj", (GROUPS * WIDTH // HEADS, WIDTH)),
    "attn_output": ("self_attn.o_proj", (WIDTH, WIDTH)),
    "ffn_norm": ("post_attention_layernorm", (WIDTH,)),
    "ffn_gate": ("mlp.gate_proj", (INNER, WIDTH)),
    "ffn_up": ("mlp.up_proj", (INNER, WIDTH)),
    "ffn_down": ("mlp.down_proj", (WIDTH, INNER)),
}


def weights(tied=True):
    """Random weights by their names in transformers, as a model that was never in GGUF has them."""
    rng = np.random.default_rng(0)
    shapes = {"model.embed_tokens": (len(TOKENS), WIDTH), "model.norm": (WIDTH,)}
    shapes |= {} if tied else {"lm_head": (len(TOKENS), WIDTH)}
    for layer in range(LAYERS):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in NAMES.values()}
    return {f"{name}.weight": rng.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in shapes.items()}


def rounded(values, kind):
    """What `kind` keeps of them; vectors stay as they are."""
    number = GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
    return dequantize(quantize(values, number), number)


def write(path, kind="F32", tied=True, settings=None, tensors=None, architecture="llama"):
    """Write a file.

    `settings` and `tensors` replace what a sound file has: None leaves one out; a tensor is an array, written as F32.
    """
    writer = GGUFWriter(path, architecture)
    for key, value in {**SETTINGS, **(settings or {})}.items():
        if value is not None:
            number = type(value) is int and value >= 0
            writer.add_key_value(key, value, GGUFValueType.UINT32 if number else GGUFValueType.get_type(value))
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"} | ({} if tied else {"output": "lm_head"})
    inner = {
        f"blk.{layer}.{old}": f"model.layers.{layer}.{new}"
        for layer in range(LAYERS)
        for old, (new, _) in NAMES.items()
    }
    found = weights(tied)
    kept = {f"{old}.weight": found[f"{new}.weight"] for old, new in {**outer, **inner}.items()}
    for name, values in {**kept, **(tensors or {})}.items():
        if values is None:
            continue
        heads = HEADS if "attn_q." in name else GROUPS if "attn_k." in name else 0
        if heads and values.ndim > 1:  # as llama.cpp's converter does: the halves of a head interleaved
            values = values.reshape(heads, 2, -1, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        number = GGMLQuantizationType[kind if values.ndim > 1 and name in kept else "F32"]
        writer.add_tensor(name, quantize(np.ascontiguousarray(values), number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
