"""Tokenizers learned from a few sentences, each of a kind that checkpoints come with."""

import json

TEXTS = ["wake me up at seven", "turn the lamp off", "play a song", "will it rain tomorrow", "größe naïve 今日"] * 9
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>"]


def learned_bytes(texts, size, special):
    """Byte-level BPE of `tokenizers`, whose first ids are the special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=letters, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def framed(backend, **settings):
    """One of transformers that puts a text between [CLS], of id 2, and [SEP], of id 3."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    named = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named, **settings)


def of_modernbert():
    """Bytes, framed as BERT's."""
    return framed(learned_bytes(TEXTS, 300, BERT), model_max_length=32)


def of_roberta():
    """Bytes, framed by <s> and </s>; padding is id 1."""
    from transformers import RobertaTokenizer

    learned = json.loads(learned_bytes(TEXTS, 300, ROBERTA).to_str())["model"]
    vocabulary = learned["vocab"] | {"<mask>": len(learned["vocab"])}
    return RobertaTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in learned["merges"]], model_max_length=16)


def of_xlm_roberta():
    """Unigrams, framed by <s> and </s>; padding is id 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import XLMRobertaTokenizer

    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=ROBERTA, unk_token="<unk>", show_progress=False)
    learner.train_from_iterator(TEXTS, trainer)
    learned = json.loads(learner.to_str())["model"]["vocab"]
    return XLMRobertaTokenizer(vocab=[*map(tuple, learned), ("<mask>", 0.0)], model_max_length=16)
