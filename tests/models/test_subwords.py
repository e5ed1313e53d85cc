"""Byte-level BPE and SentencePiece's unigrams come in as their file cuts, for the families that count from padding."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from stages.core.errors import InputError, Unsupported
from stages.measure.edges import EDGES
from stages.models import checkpoint, importing, pieces
from stages.models.coverage import encode_coverage
from stages.models.encode import encode, logits
from stages.models.export import ExportModule
from stages.models.mask import export_logits
from stages.releasing import tokenization
from stages.tasks.classify.model import HEAD
from tests.toys.classifiers import LABELS, LIMITS
from tests.toys.tokenizers import TEXTS, of_roberta, of_xlm_roberta

TOKENIZERS = {"roberta": of_roberta, "xlm-roberta": of_xlm_roberta}


@pytest.fixture(params=TOKENIZERS)
def outside(request, make_model, tmp_path):
    """A checkpoint as the family's are published: padding is id 1, positions start at row 2."""
    tokenizer = TOKENIZERS[request.param]()
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": 1, "max_position_embeddings": 18, "type_vocab_size": 1}
    make_model(request.param, **sizes).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def read(directory, labels=LABELS, max_length=16):
    return importing.read(directory, labels, max_length, LIMITS, HEAD)


def test_texts_are_cut_as_the_file_says_before_and_after_a_save(outside, tmp_path):
    own = Tokenizer.from_file(str(outside / "tokenizer.json"))
    model, tokenizer = read(outside)
    (tmp_path / "again").mkdir()
    checkpoint.save(model, tokenizer, tmp_path / "again")
    again = checkpoint.load_tokenizer(tmp_path / "again")
    for text in (*EDGES.values(), *TEXTS[:5]):
        assert tokenizer(text).input_ids == again(text).input_ids == own.encode(text).ids, text


def test_the_export_module_answers_as_transformers_does_of_texts_and_of_padding(outside):
    model, tokenizer = read(outside)
    encoded = encode(tokenizer, TEXTS[:5], 16)
    assert encoded.input_ids[encoded.attention_mask == 0].tolist().count(1) > 0
    stock = logits(model, encoded, batch_size=1)
    found = export_logits(ExportModule(model, 64.0).eval(), encoded)
    assert np.abs(found - stock).max() < 1e-4 * stock.std()


def test_two_positions_less_than_the_table_has_rows_can_be_read(outside):
    with pytest.raises(InputError, match="has 16 positions and the task's max_length is 17"):
        read(outside, max_length=17)


def test_padding_that_config_and_tokenizer_number_otherwise_is_refused(outside):
    config = json.loads((outside / "config.json").read_text(encoding="utf-8")) | {"pad_token_id": 3}
    (outside / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="pads with id 1, and config.json has pad_token_id: 3.*counts its positions"):
        read(outside, max_length=14)


def test_of_a_head_of_two_layers_the_last_alone_is_renumbered(outside):
    ids = torch.tensor([[0, 9, 12, 14, 2]])
    before, _ = read(outside)
    config = json.loads((outside / "config.json").read_text(encoding="utf-8"))
    turned = LABELS[1:] + LABELS[:1]
    config |= {"id2label": dict(enumerate(turned)), "label2id": {name: row for row, name in enumerate(turned)}}
    (outside / "config.json").write_text(json.dumps(config), encoding="utf-8")
    after, _ = read(outside)
    with torch.inference_mode():
        torch.testing.assert_close(after(ids).logits, before(ids).logits.roll(1, dims=1))
    torch.testing.assert_close(after.classifier.dense.weight, before.classifier.dense.weight)


def test_clients_with_a_bert_tokenizer_of_their_own_are_given_the_reason_why_not(outside, tmp_path):
    model, tokenizer = read(outside)
    (tmp_path / "again").mkdir()
    checkpoint.save(model, tokenizer, tmp_path / "again")
    found = tokenization.read(tmp_path / "again", 16)
    assert found.why_not_bert() == "the tokenizer is not WordPiece after BERT's normaliser"
    kind = found.content["model"]["type"]
    of_swift = found.client_config(rules_from_file=True)["tokenizer_class"]
    assert (kind, of_swift) in {("BPE", "RobertaTokenizer"), ("Unigram", "XLMRobertaTokenizer")}


def test_a_vocabulary_of_merges_or_scores_is_not_pruned(outside):
    _, tokenizer = read(outside)
    with pytest.raises(Unsupported, match="cannot prune the vocabulary of a '(BPE|Unigram)' tokenizer"):
        pieces.rewrite_tokenizer(tokenizer, np.arange(20))


def test_positions_are_counted_from_padding_which_therefore_keeps_its_id(make_model):
    model = make_model("roberta", pad_token_id=1, max_position_embeddings=18)
    with pytest.raises(Unsupported, match="padding would move from id 1"):
        pieces.keep_rows(model, np.arange(1, 40))
    pieces.keep_rows(model, np.arange(0, 40))
    assert model.config.pad_token_id == 1


def test_texts_that_spell_the_padding_are_left_out_of_what_artifacts_are_compared_on(tokenizer):
    normal = [encode(tokenizer, ["word1 word2"], 12)]
    for spelled in (True, False):
        found = encode_coverage(tokenizer, normal, 12, spelled_padding=spelled)
        assert bool(((found.input_ids == 0) & (found.attention_mask == 1)).any()) == spelled
