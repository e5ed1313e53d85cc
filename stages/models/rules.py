"""What settings of config.json may say that no family computes with: those that must ask for nothing, and notes."""

from __future__ import annotations

from typing import Any

from stages.models.families.base import ANY, FLAG, INDEX, MAPPING, Rule, one_of, or_null

ENCODER = "only encoders that see the whole text are built: take the encoder it was made from, without this setting"
TASKS = ("sentiment-analysis", "text-classification")  # one pipeline of transformers under two names
LABELS_EXCLUDE = "the labels must exclude each other: sigmoids are for several labels per text"


def _raw_logits(value: Any) -> bool:
    """Whether sentence-transformers leaves logits as they are (it names the class of an activation)."""
    return isinstance(value, str) and value.rpartition(".")[2] in ("Identity", "Softmax")


# What Tinsmith itself records of a checkpoint it reshaped, and transformers up to version 4 of pruned heads.
STRUCTURE: dict[str, Rule] = {
    **dict.fromkeys(("low_rank", "pruned_heads", "replaced_activations"), or_null(MAPPING)),
    "shared_layers": ANY,
}

# Settings that some version of transformers acts on, at the values that ask for nothing.
SILENT: dict[str, Rule] = {
    **dict.fromkeys(("is_decoder", "is_encoder_decoder", "add_cross_attention"), one_of(False, next_step=ENCODER)),
    "tie_encoder_decoder": or_null(one_of(False, next_step=ENCODER)),
    "position_embedding_type": or_null(
        one_of(
            "absolute",
            next_step="transformers 5 leaves relative positions (distance_embedding) out, and the model would answer "
            "otherwise: train one with absolute positions",
        )
    ),
    "problem_type": or_null(
        one_of(
            "single_label_classification",
            next_step="a label per text, the labels excluding each other, is the one task here: for several labels per "
            "text train a classifier of two labels for each, for a score a classifier of its ranges",
        )
    ),
    "function_to_apply": or_null(one_of("softmax", "none", next_step=LABELS_EXCLUDE)),
    "sbert_ce_default_activation_function": or_null(Rule(_raw_logits, "an Identity", LABELS_EXCLUDE)),
    "sentence_transformers": or_null(
        Rule(
            lambda value: (
                isinstance(value, dict) and ("activation_fn" not in value or _raw_logits(value["activation_fn"]))
            ),
            "an Identity as activation_fn",
            LABELS_EXCLUDE,
        )
    ),
    "adapters": or_null(
        Rule(
            lambda value: isinstance(value, dict) and not value.get("adapters"),
            "no adapters",
            "merge them into the weights and save the model without",
        )
    ),
    **dict.fromkeys(("rope_interleaved", "use_mrope"), or_null(one_of(False))),
    "pooler_type": or_null(one_of("first_token_transform")),
    "net_structure_type": or_null(one_of(0)),
    "num_memory_blocks": or_null(one_of(0)),
    "gap_size": or_null(one_of(0)),
    "down_scale_factor": or_null(one_of(1)),
    "task_specific_params": or_null(
        Rule(lambda value: isinstance(value, dict) and not set(TASKS) & set(value), f"none for {' or '.join(TASKS)}")
    ),
}

FLOATS = ("float16", "float32", "float64", "bfloat16", None)
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", None)
TOKENS = {
    **dict.fromkeys(
        ("bos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id"),
        or_null(Rule(lambda value: type(value) is int, "a token id")),
    ),
    "eos_token_id": or_null(
        Rule(
            lambda value: type(value) is int or (isinstance(value, list) and all(type(one) is int for one in value)),
            "a token id, or a list of those that end a text",
        )
    ),
}

# How answers are computed, delivered or were trained, and notes: none of it changes an answer. It is left behind, so
# that the model is built, and saved, as every other one.
LEFT_BEHIND: dict[str, Rule] = {
    **dict.fromkeys(("return_dict", "use_return_dict", "output_hidden_states", "output_attentions"), or_null(FLAG)),
    **dict.fromkeys(("torchscript", "use_cache", "gradient_checkpointing", "use_bfloat16"), or_null(FLAG)),
    **dict.fromkeys(("tie_word_embeddings", "tie_weights_", "output_past", "is_composition"), or_null(FLAG)),
    **dict.fromkeys(("_attn_implementation_autoset", "xla_device", "tf_legacy_loss"), or_null(FLAG)),
    **dict.fromkeys(("attn_implementation", "_attn_implementation"), one_of(*ATTENTIONS)),
    **dict.fromkeys(("dtype", "torch_dtype"), one_of(*FLOATS)),
    "chunk_size_feed_forward": or_null(INDEX),
    "decoder_start_token_id": ANY,
    **dict.fromkeys(("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "finetuning_task"), ANY),
    **dict.fromkeys(("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"), ANY),
    **dict.fromkeys(
        ("pooler_size_per_head", "padding", "prefix", "language", "license", "transformers.js_config"), ANY
    ),
    **dict.fromkeys(("keys_to_ignore_at_inference", "reference_compile", "repad_logits_with_grad"), ANY),
    **dict.fromkeys(("activation_dropout", "is_llama_config"), ANY),
}
