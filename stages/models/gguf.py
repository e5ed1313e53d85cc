"""Unpack a GGUF file into a Hugging Face checkpoint in fp32, its weights bit for bit those of `gguf.dequantize`.

What cannot be reproduced is refused by name: other architectures, scaled rotary positions, biases, experts, tensors of
other types, and any setting that is not known here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.names import GENERATION
from stages.models import gguf_tokenizer
from stages.models.contents import CONFIG, WEIGHTS
from stages.models.gguf_header import SHOWN, TYPES, Header, Stored, read
from stages.schema.model import ImportLimits

ARCHITECTURE = "llama"
SETTINGS = {
    f"{ARCHITECTURE}.{key}"
    for key in (
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "vocab_size",
    )
}
# What would change answers at any other value.
NEUTRAL: dict[str, Any] = {
    "general.type": "model",
    "general.quantization_version": 2,
    f"{ARCHITECTURE}.attention.causal": True,
    f"{ARCHITECTURE}.expert_count": 0,
    f"{ARCHITECTURE}.expert_used_count": 0,
    f"{ARCHITECTURE}.rope.scaling.type": "none",
    f"{ARCHITECTURE}.tensor_data_layout": "Meta AI original pth",
}
# Who made the file, from what, and how: no answer depends on them.
NOTES = ("general.", "quantize.imatrix.")
THETA = 10000.0  # llama.cpp's where the file names none
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
OUTER = {EMBEDDING: "model.embed_tokens", "output_norm.weight": "model.norm", HEAD: "lm_head"}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# llama.cpp rotates neighbouring pairs of a head's values, transformers its two halves.
ROTATED = ("attn_q", "attn_k")
KINDS = {"rope_freqs": " (scaled rotary positions)", ".bias": " (a bias)", "_exps.": " (experts)"}
PIECE = 1 << 20  # weights in memory at once


def unpack(path: Path, directory: Path, limits: ImportLimits) -> None:
    """Write what a GGUF file holds as a Hugging Face checkpoint.

    Args:
        path: the file, from outside.
        directory: an empty one. It gets config.json, model.safetensors (fp32), tokenizer.json, tokenizer_config.json
            and generation_config.json.
        limits: what the file may ask of this machine.

    Raises:
        InputError: the file is damaged, asks for more than it may, or holds what cannot be reproduced.
    """
    if not path.is_file():  # a pipe would hold the stage for ever
        raise InputError(f"'{path}' is no regular file", expected="a GGUF file")
    with path.open("rb") as stream:
        header = read(stream, path, limits)
        config = _config(path, header, limits)
        _check_tensors(path, header, _places(config))
        tokenizer = gguf_tokenizer.build(path, header.settings, config["vocab_size"], config["max_position_embeddings"])
        ends: Any = tokenizer.ends if len(tokenizer.ends) > 1 else tokenizer.ends[0]
        kept = {f"{role}_token_id": tokenizer.roles[role] for role in ("bos", "pad") if role in tokenizer.roles}
        roles = {**kept, "eos_token_id": ends}
        _write_json(directory / CONFIG, {**config, **roles})
        _write_json(directory / GENERATION, roles)
        _write_json(directory / "tokenizer_config.json", tokenizer.settings)
        tokenizer.rules.save(str(directory / "tokenizer.json"))
        _write_weights(stream, path, header, config, directory / WEIGHTS)


def _config(path: Path, header: Header, limits: ImportLimits) -> dict[str, Any]:
    settings = header.settings
    architecture = settings.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise InputError(
            f"'{path}' holds the architecture {str(architecture)[:SHOWN]!r}",
            expected=f"'{ARCHITECTURE}'",
            next_step="take the checkpoint it was made from",
        )
    _check_settings(path, settings)

    def count(key: str, default: int | None = None, most: int = limits.integer) -> int:
        value = settings.get(f"{ARCHITECTURE}.{key}", default)
        if type(value) is not int or not 1 <= value <= most:
            raise InputError(
                f"'{path}' has {ARCHITECTURE}.{key}: {str(value)[:SHOWN]}", expected=f"a number from 1 to {most}"
            )
        return value

    def positive(key: str, default: float | None = None) -> float:
        value = settings.get(f"{ARCHITECTURE}.{key}", default)
        if not isinstance(value, float) or not (math.isfinite(value) and value > 0):
            raise InputError(f"'{path}' has {ARCHITECTURE}.{key}: {str(value)[:SHOWN]}", expected="a positive number")
        return value

    width, heads = count("embedding_length"), count("attention.head_count")
    groups, size = count("attention.head_count_kv", heads), count("attention.key_length", max(1, width // heads))
    values, rotated = count("attention.value_length", size), count("rope.dimension_count", size)
    if heads % groups or size % 2 or not values == rotated == size:
        raise InputError(
            f"'{path}' has {heads} heads in {groups} groups, {size} numbers in a key, {values} in a value, and "
            f"{rotated} that are rotated",
            expected="groups of one size, and one even number",
        )
    rows = header.tensors[EMBEDDING].shape[0] if EMBEDDING in header.tensors else 1
    if count("vocab_size", rows) != rows:
        raise InputError(f"'{path}' has {ARCHITECTURE}.vocab_size: {count('vocab_size')} and {rows} word vectors")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "float32",
        "head_dim": size,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": count("feed_forward_length"),
        "max_position_embeddings": count("context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": count("block_count", most=limits.layers),
        "num_key_value_heads": groups,
        "rms_norm_eps": positive("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_theta": positive("rope.freq_base", THETA), "rope_type": "default"},
        "tie_word_embeddings": HEAD not in header.tensors,
        "vocab_size": rows,
    }


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        if key in NEUTRAL and value != NEUTRAL[key]:
            raise InputError(f"'{path}' has {key}: {str(value)[:SHOWN]!r}", expected=f"{NEUTRAL[key]!r}, or none")
        if not (key in SETTINGS or key in NEUTRAL or key.startswith(NOTES) or gguf_tokenizer.knows(key)):
            raise InputError(
                f"'{path}' has {key[:SHOWN]}: {str(value)[:SHOWN]}, which is not known here to change no answer",
                expected=f"the settings of a plain {ARCHITECTURE} model",
                next_step="take the checkpoint it was made from",
            )


def _places(config: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return for every tensor that a model has, by its name in GGUF: its name in transformers, and its shape."""
    width, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
        "ffn_norm": (width,),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    table = (config["vocab_size"], width)
    outer = {
        EMBEDDING: table,
        "output_norm.weight": (width,),
        **({} if config["tie_word_embeddings"] else {HEAD: table}),
    }
    return {name: (f"{OUTER[name]}.weight", shape) for name, shape in outer.items()} | {
        f"blk.{layer}.{name}.weight": (f"model.layers.{layer}.{INNER[name]}.weight", shape)
        for layer in range(config["num_hidden_layers"])
        for name, shape in shapes.items()
    }


def _check_tensors(path: Path, header: Header, places: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    for name in [*places, *header.tensors]:
        stored = header.tensors.get(name)
        if stored is None:
            raise InputError(
                f"'{path}' has no tensor '{name}'", expected=f"all {len(places)} of the model it describes"
            )
        if name not in places:
            kind = next((what for part, what in KINDS.items() if part in name), "")
            raise InputError(
                f"'{path}' has a tensor {name[:SHOWN]!r}{kind}, which the model it describes has no place for",
                next_step="take the checkpoint it was made from",
            )
        if stored.shape != places[name][1]:
            raise InputError(f"'{path}' gives tensor '{name}' the shape {stored.shape}", expected=f"{places[name][1]}")


def _write_weights(stream: BinaryIO, path: Path, header: Header, config: dict[str, Any], target: Path) -> None:
    """Write a safetensors file, one piece of a tensor after another."""
    places = _places(config)
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for new, shape in places.values():
        begin, end = end, end + 4 * math.prod(shape)
        described[new] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in places:
            rotated = name.split(".")[-2] in ROTATED
            for piece in _pieces(stream, path, header.tensors[name], config["head_dim"] if rotated else None):
                out.write(piece.astype("<f4", copy=False).tobytes())


def _pieces(stream: BinaryIO, path: Path, stored: Stored, rotated: int | None) -> Iterator[NDArray[np.float32]]:
    """Yield a tensor in rows [some, columns]; those of a head, `rotated` in number, are put in transformers' order."""
    columns = stored.shape[-1]
    rows, step = math.prod(stored.shape[:-1]), rotated or max(1, PIECE // columns)
    stream.seek(stored.offset)
    for first in range(0, rows, step):
        raw = stream.read(min(step, rows - first) * stored.row_bytes)
        values = _dequantised(path, raw, stored)
        yield values.reshape(-1, 2, columns).swapaxes(0, 1).reshape(-1, columns) if rotated else values


def _dequantised(path: Path, raw: bytes, stored: Stored) -> NDArray[np.float32]:
    from gguf import GGMLQuantizationType, dequantize

    if len(raw) % stored.row_bytes or not raw:
        raise InputError(f"'{path}' became shorter while it was read")
    assert stored.kind in TYPES
    with np.errstate(all="ignore"):  # scales that are no numbers give weights that are none, which import refuses
        rows = np.frombuffer(raw, np.uint8).reshape(-1, stored.row_bytes)
        values: NDArray[np.float32] = dequantize(rows, GGMLQuantizationType[stored.kind])
    return values


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
