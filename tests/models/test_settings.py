"""config.json is read by an allow-list: what would not be honoured is named, what changes no answer is left behind."""

import dataclasses
import json

import pytest
import torch

from stages.core.errors import InputError
from stages.models import checkpoint, importing, settings
from stages.models.families import find
from stages.models.shapes import config_class
from stages.tasks.classify.model import HEAD
from tests.toys.classifiers import LABELS, LIMITS, published

IDS = torch.tensor([[2, 5, 12, 30, 3, 6, 7, 8], [2, 8, 20, 21, 22, 23, 24, 3]])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return published(tmp_path_factory.mktemp("settings"))


@pytest.fixture
def adopt(tmp_path, make_model):
    """Write a config.json with changes (None removes a key), and have it adopted."""

    def adopted(family="bert", **changes):
        config = json.loads(make_model(family).config.to_json_string(use_diff=False)) | changes
        path = tmp_path / "config.json"
        kept = {key: value for key, value in config.items() if value is not ...}
        path.write_text(json.dumps(kept), encoding="utf-8")
        settings.adopt(path, HEAD)
        return json.loads(path.read_text(encoding="utf-8"))

    return adopted


def answers(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "relative_key.*distance_embedding"),
        ({"position_embedding_type": "relative_key_query"}, "relative_key_query.*expected absolute"),
        ({"position_embedding_type": "rotary"}, 'position_embedding_type: "rotary"'),
        ({"is_decoder": True}, "is_decoder: true; expected false"),
        ({"add_cross_attention": True}, "add_cross_attention: true"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder: true"),
        ({"hidden_size": "64"}, 'hidden_size: "64"; expected a whole number'),
        ({"hidden_size": 32.0}, "hidden_size: 32.0; expected a whole number"),
        ({"hidden_size": True}, "hidden_size: true"),
        ({"hidden_size": None}, "hidden_size: null"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0"),
        ({"type_vocab_size": 0}, "type_vocab_size: 0"),
        ({"num_attention_heads": 5}, "5 heads in layers of width 32"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob: NaN; expected a number from 0 to 1"),
        ({"attention_probs_dropout_prob": float("inf")}, "attention_probs_dropout_prob: Infinity"),
        ({"hidden_dropout_prob": "0.1"}, 'hidden_dropout_prob: "0.1"'),
        ({"classifier_dropout": -0.5}, "classifier_dropout: -0.5"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps: NaN"),
        ({"hidden_act": "swoosh"}, 'hidden_act: "swoosh"; expected an activation'),
        ({"hidden_act": 3}, "hidden_act: 3"),
        ({"initializer_range": 1}, "initializer_range: 1; expected a finite fraction"),
        ({"bos_token_id": [1]}, "bos_token_id: .1.; expected a token id"),
        ({"hidden_act": "xielu"}, 'hidden_act: "xielu"; expected an activation that transformers computes in fp32'),
        ({"pad_token_id": 49}, "pad_token_id: 49; expected an id below the 49"),
        ({"pad_token_id": -1}, "pad_token_id: -1"),
        ({"dtype": "float31"}, 'dtype: "float31"'),
        ({"torch_dtype": "int8"}, 'torch_dtype: "int8"'),
        ({"attn_implementation": "someone/kernels"}, 'attn_implementation: "someone/kernels"; expected eager'),
        ({"_attn_implementation": {"": "someone/kernels"}}, "_attn_implementation: "),
        ({"experts_implementation": "someone/kernels"}, "experts_implementation: .* would not be honoured"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights: .* would not be honoured"),
        ({"configuration_files": ["config.4.0.json"]}, "configuration_files: "),
        ({"per_layer_config": {"0": {"hidden_act": "relu"}}}, "per_layer_config: "),
        ({"text_config": {"hidden_size": 8}}, "text_config: "),
        ({"custom_pipelines": {"classify": {"impl": "mine.Mine"}}}, "custom_pipelines: "),
        ({"alibi": True}, "alibi: true, a setting that would not be honoured here.*remove 'alibi' if"),
        ({"embedding_size": 16}, "embedding_size: 16; expected 32"),
        ({"function_to_apply": "sigmoid"}, "function_to_apply: .*exclude each other"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
            "sentence_transformers: ",
        ),
        ({"task_specific_params": {"text-classification": {"top_k": 2}}}, "task_specific_params: "),
        ({"adapters": {"adapters": {"ner": {}}}}, "adapters: .* expected no adapters, or null; next: merge them"),
        ({"chunk_size_feed_forward": -1}, "chunk_size_feed_forward: -1"),
        ({"return_dict": "no"}, 'return_dict: "no"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_that_would_not_be_honoured_is_named(adopt, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        adopt(**changes)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "changes",
    [
        {"return_dict": False},
        {"use_return_dict": False},
        {"output_hidden_states": True, "output_attentions": True},
        {"torchscript": True},
        {"chunk_size_feed_forward": 8},
        {"chunk_size_feed_forward": 3},
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation": "flash_attention_2"},
        {"dtype": "float16"},
        {"torch_dtype": "bfloat16", "dtype": ...},
        {"gradient_checkpointing": True, "use_cache": False},
    ],
    ids=lambda value: next(iter(value)),
)
def test_how_answers_are_delivered_changes_none_and_is_left_behind(saved, make_model, tmp_path, changes):
    """What was saved later would be built by every other client, and apps read it with their own defaults."""
    path = tmp_path / "config.json"
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}), encoding="utf-8")
    model, tokenizer = importing.read(tmp_path, LABELS, 16, LIMITS, HEAD)
    torch.testing.assert_close(answers(model), answers(make_model()), rtol=0, atol=0)
    (tmp_path / "again").mkdir()
    checkpoint.save(model, tokenizer, tmp_path / "again")
    again = json.loads((tmp_path / "again/config.json").read_text(encoding="utf-8"))
    assert again == json.loads((saved / "config.json").read_text(encoding="utf-8"))


def test_what_old_versions_and_other_tools_wrote_beside_the_settings_is_no_hindrance(adopt):
    """Keys of published classifiers: multilingual BERT, KoBERT, AutoTrain, transformers 2 and 3, transformers.js."""
    noise = {
        "_name_or_path": "bert-base",
        "transformers_version": "4.6.0",
        "_num_labels": 4,
        "num_labels": 4,
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
        "embedding_size": 32,
        "finetuning_task": "sst-2",
        "output_past": True,
        "pruned_heads": {},
        "torchscript": False,
        "xla_device": True,
        "bad_words_ids": None,
        "max_length": 64,
        "padding": "max_length",
        "num_beams": 1,
        "do_sample": False,
        "bos_token_id": 0,
        "eos_token_ids": None,
        "prefix": None,
        "task_specific_params": None,
        "language": "en",
        "position_embedding_type": "absolute",
        "problem_type": "single_label_classification",
        "gradient_checkpointing": False,
        "torch_dtype": "float32",
        "tokenizer_class": "BertTokenizer",
        "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
        "transformers.js_config": {"use_external_data_format": {"model.onnx": 1}},
        "adapters": {"adapters": {}, "config_map": {}, "fusions": {}},
    }
    kept = adopt(**noise)
    assert {"max_length", "num_beams", "_name_or_path", "torchscript", "pooler_type", "adapters"}.isdisjoint(kept)
    assert kept["hidden_size"] == 32


def test_everything_that_version_4_wrote_of_a_config_in_full_is_no_hindrance(adopt, family):
    """Trainers that wrote `to_dict()` wrote every default, of decoders and of text generation too."""
    false = "add_cross_attention is_decoder is_encoder_decoder output_attentions output_hidden_states tf_legacy_loss"
    false += (
        " tie_encoder_decoder torchscript use_bfloat16 do_sample early_stopping output_scores remove_invalid_values"
    )
    absent = "bos_token_id cross_attention_hidden_size decoder_start_token_id eos_token_id finetuning_task prefix"
    absent += (
        " problem_type sep_token_id task_specific_params tokenizer_class torch_dtype bad_words_ids suppress_tokens"
    )
    one = "diversity_penalty length_penalty num_beams num_beam_groups num_return_sequences temperature top_p typical_p"
    adopt(
        family,
        **dict.fromkeys(false.split(), False),
        **dict.fromkeys(absent.split()),
        **dict.fromkeys(one.split(), 1),
        chunk_size_feed_forward=0,
        pruned_heads={},
        return_dict=True,
        tie_word_embeddings=True,
    )


def test_the_settings_of_other_heads_are_no_hindrance_to_electra(adopt):
    adopt("electra", summary_type="first", summary_use_proj=True, summary_activation="gelu", summary_last_dropout=0.1)


def test_the_old_keys_of_albert_and_the_aliases_of_distilbert_are_no_hindrance(adopt):
    adopt("albert", net_structure_type=0, gap_size=0, num_memory_blocks=0, down_scale_factor=1)
    adopt("distilbert", tie_weights_=True, hidden_size=32, num_attention_heads=4)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("albert", {"num_memory_blocks": 2}, "num_memory_blocks: 2; expected 0"),
        ("distilbert", {"hidden_size": 64}, "hidden_size: 64; expected 32, which it says elsewhere"),
        ("distilbert", {"intermediate_size": 3072}, "intermediate_size: 3072, a setting that would not be honoured"),
        ("mobilebert", {"true_hidden_size": 16}, "true_hidden_size: 16; expected 32"),
        ("mobilebert", {"normalization_type": "rms"}, 'normalization_type: "rms"'),
    ],
)
def test_every_family_has_its_own_settings(adopt, family, changes, message):
    with pytest.raises(InputError, match=message):
        adopt(family, **changes)


@pytest.mark.parametrize("name", ["deberta-v2", "mpnet", "roformer", "nonsense", ["bert"]])
def test_an_unknown_family_is_refused_by_naming_ours(adopt, name):
    with pytest.raises(InputError, match="of family .*; expected one of: albert, bert, .*, roberta, xlm-roberta"):
        adopt(model_type=name)


def test_a_missing_family_is_never_guessed_from_the_directory(adopt):
    with pytest.raises(InputError, match="names no family .model_type.; expected one of: albert, bert"):
        adopt(model_type=...)


def test_every_field_of_every_family_is_known(family):
    """Fails where a new version of transformers gives a family a setting that nobody has looked at."""
    names = {field.name for field in dataclasses.fields(config_class(find(family)))}
    assert names - settings.rules_of(find(family)).keys() == set()


def test_the_padding_id_is_the_tokenizers(saved, tmp_path):
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) | {"pad_token_id": 4}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model, tokenizer = importing.read(tmp_path, LABELS, 16, LIMITS, HEAD)
    assert model.config.pad_token_id == tokenizer.pad_token_id == 0


def test_a_tokenizer_that_is_a_python_program_is_refused_by_name_rather_than_for_a_package(tmp_path):
    given = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(given), encoding="utf-8")
    with pytest.raises(InputError, match="'BertJapaneseTokenizer', which splits words by a Python program"):
        settings.check_tokenizer_class(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    settings.check_tokenizer_class(tmp_path)


def test_the_models_are_taken_in_as_they_lie_there(real, tmp_path):
    for name in ("minilm_clinc150", "clinc150_teacher", "clinc150_student"):
        path = tmp_path / "config.json"
        path.write_bytes((real / name / "config.json").read_bytes())
        settings.adopt(path, HEAD)


def test_a_language_model_is_refused_by_its_family(real, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes((real / "stories260k/config.json").read_bytes())
    with pytest.raises(InputError, match="of family 'llama'"):
        settings.adopt(path, HEAD)
