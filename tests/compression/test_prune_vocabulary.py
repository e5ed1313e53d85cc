"""Rows that texts use keep their answers; the tokenizer agrees with the table; unknown words fall to what is left."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from stages.compression import prune_vocabulary
from stages.core.errors import ConfigError, Unsupported
from stages.models.checkpoint import load_model, load_tokenizer, save
from stages.models.encode import encode, logits
from stages.models.examples import Examples
from stages.models.pieces import count, keep_rows, rewrite_tokenizer
from stages.models.recovery import Utterances
from stages.models.vocabulary import train_tokenizer
from stages.tasks.classify.model import items

TEXTS = ["wake me up early", "play a song", "play songs again", "waking early", "sing a song"] * 3


@pytest.fixture(scope="module")
def pieces():
    return train_tokenizer(TEXTS, 60, 12)


def utterances(tokenizer, texts):
    def by(tokenizer):
        return Examples(encode(tokenizer, texts, 12), np.arange(len(texts)) % 4, items)

    return Utterances(**vars(by(tokenizer)), encode=by)


def test_texts_of_kept_pieces_have_the_same_logits(family, make_model, pieces):
    texts, model = TEXTS[:3], make_model(family, vocab_size=len(pieces))
    wanted = logits(model, encode(pieces, texts, 12))
    kept = np.unique(np.concatenate([encode(pieces, texts, 12).input_ids.ravel(), pieces.all_special_ids]))
    assert len(kept) < len(pieces)
    keep_rows(model, kept)
    rewritten = rewrite_tokenizer(pieces, kept)
    assert (logits(model, encode(rewritten, texts, 12)) == wanted).all()
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] == len(rewritten) == len(kept)


def test_ids_are_renumbered_everywhere(make_model, pieces, tmp_path):
    kept = np.array([i for i in range(len(pieces)) if i not in (5, 6, 7)])
    rewritten = rewrite_tokenizer(pieces, kept)
    rewritten.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    again = [pieces.convert_ids_to_tokens(int(i)) for i in kept]
    assert found.convert_ids_to_tokens(list(range(len(found)))) == again
    first, last = found("wake")["input_ids"][0], found("wake")["input_ids"][-1]
    assert (first, last) == (found.cls_token_id, found.sep_token_id)


def test_special_tokens_may_stand_anywhere(make_model, tokenizer):
    kept = np.array([0, 1, 2, 3, 4, *range(20, 49)])[::1]
    rewritten = rewrite_tokenizer(tokenizer, kept)
    assert rewritten.pad_token_id == 0
    model = make_model("bert")
    model.config.pad_token_id, model.config.eos_token_id = 20, 6
    keep_rows(model, kept)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (5, None)


def test_older_post_processors_and_added_tokens_are_renumbered_too(make_model, pieces, settings):
    """Ids stand in them as pairs; a token that no text uses has its place in the tokenizer all the same."""
    from tokenizers.processors import BertProcessing
    from transformers import PreTrainedTokenizerFast

    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "mask", "pad", "sep", "unk")}
    older = PreTrainedTokenizerFast(tokenizer_object=pieces.backend_tokenizer, **roles)
    older.backend_tokenizer.post_processor = BertProcessing(("wake", pieces("wake").input_ids[1]), ("[CLS]", 2))
    older.add_tokens(["<url>"])
    model = make_model("bert", vocab_size=len(older))
    train = utterances(older, ["early", "song"])
    found = prune_vocabulary.apply(
        model, older, {"train": train, "validation": train}, settings("small_vocabulary", min_count=1, recovery=None)
    ).tokenizer
    assert len(found) < len(older)
    assert found.convert_ids_to_tokens(found("<url> early").input_ids) == ["[CLS]", "<url>", "early", "wake"]


def test_a_word_that_loses_its_piece_is_spelled_with_what_is_left(make_model, pieces, settings):
    train = utterances(pieces, TEXTS)
    rare = utterances(pieces, [*TEXTS, "wakes"])
    model = make_model("bert", vocab_size=len(pieces))
    splits = {"train": rare, "validation": train}
    outcome = prune_vocabulary.apply(model, pieces, splits, settings("small_vocabulary", min_count=4, recovery=None))
    assert outcome.removed["pieces"] < outcome.removed["pieces_before"] == len(pieces)
    assert outcome.removed["tokens_changed"]["train"] > 0
    found = outcome.tokenizer
    assert found.tokenize("waking") != pieces.tokenize("waking")
    assert "".join(piece.removeprefix("##") for piece in found.tokenize("waking")) == "waking"
    assert found.tokenize("日") == ["[UNK]"]


def test_the_pruned_checkpoint_reloads_with_its_tokenizer(make_model, tokenizer, examples, settings, tmp_path):
    asked = settings("small_vocabulary", min_count=12)
    outcome = prune_vocabulary.apply(make_model("bert"), tokenizer, examples, asked)
    save(outcome.model, outcome.tokenizer, tmp_path)
    model, found = load_model(tmp_path), load_tokenizer(tmp_path)
    encoded = examples["validation"].encode(found).encoded
    assert encoded.input_ids.max() < len(found) == model.config.vocab_size < len(tokenizer)
    assert (logits(model, encoded) == logits(outcome.model, encoded)).all()
    assert outcome.history


def test_a_vocabulary_that_is_all_used_is_refused(make_model, pieces, settings):
    texts = [*TEXTS, " ".join(p.removeprefix("##") for p in pieces.get_vocab())]
    train = utterances(pieces, texts)
    splits = {"train": train, "validation": train}
    asked = settings("small_vocabulary", min_count=1, recovery=None)
    kept = np.flatnonzero(count(train.encoded, len(pieces)))
    small = rewrite_tokenizer(pieces, np.union1d(kept, range(5)))
    model = make_model("bert", vocab_size=len(small))
    train = utterances(small, texts)
    with pytest.raises(ConfigError, match=r"pieces occurs 1 times; expected a larger min_count"):
        prune_vocabulary.apply(model, small, dict.fromkeys(splits, train), asked)


def test_a_tokenizer_of_merges_or_scores_is_refused(tokenizer):
    scored = type(tokenizer)(tokenizer_object=Tokenizer(models.Unigram([("[UNK]", 0.0), ("a", -1.0)], unk_id=0)))
    with pytest.raises(Unsupported, match="cannot prune the vocabulary of a 'Unigram' tokenizer"):
        rewrite_tokenizer(scored, np.array([0]))
