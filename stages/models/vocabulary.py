"""Train a vocabulary that is the same in every process: of WordPieces, or of pairs of bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from stages.core.errors import ConfigError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MIN_FREQUENCY = 2
PRIVATE_USE = 0xF0000
BETWEEN = "<|endoftext|>"
"""Begins a text and ends it: the one special token of what continues texts."""
BYTES = 256


def train_tokenizer(texts: Iterable[str], size: int, max_length: int) -> Any:
    """Train a lower-casing BERT tokenizer.

    `WordPieceTrainer` numbers the `##` pieces in the order of a hash map that every process seeds anew, and
    breaks ties by those numbers: three runs on CLINC150 gave three vocabularies. `BpeTrainer` numbers its
    alphabet in code point order. So a character inside a word is written as a private code point, which makes
    it another letter than the one that starts a word; BPE learns the merges; and the pieces are written back.

    Before: `play` → p l a y, of which l a y are private letters → merges → `pl`, `ay` in private letters.
    After: `pl`, `##ay`.

    Args:
        texts: the train split.
        size: most entries, special tokens included.
        max_length: longest token sequence the tokenizer promises.

    Returns:
        A `BertTokenizer` (fast) that `AutoTokenizer` loads once it is saved.
    """
    words = _words(texts)
    inner = {char: chr(PRIVATE_USE + index) for index, char in enumerate(sorted({c for word in words for c in word}))}
    outer = {code: char for char, code in inner.items()}
    learner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL_TOKENS), min_frequency=MIN_FREQUENCY, show_progress=False
    )
    learner.train_from_iterator(_spelled(words, inner), trainer)
    learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    pieces = [_wordpiece(piece, outer) for piece, _ in learned]
    vocabulary = {piece: index for index, piece in enumerate([*SPECIAL_TOKENS, *pieces])}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)


def train_byte_pairs(texts: Iterable[str], size: int, max_length: int) -> Any:
    """Train a tokenizer that spells any text, and puts `BETWEEN` before it.

    Source: Sennrich, Haddow & Birch (2016), section 3.2, over bytes as in Radford et al. (2019), section 2.2.

    Args:
        texts: the train split.
        size: most entries, bytes and the special token included.
        max_length: longest token sequence the tokenizer promises.

    Raises:
        ConfigError: too few entries for every byte.
    """
    if size <= BYTES:
        raise ConfigError(f"a vocabulary of {size} does not hold every byte", expected=f"{BYTES + 1} or more")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[BETWEEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BETWEEN} $A", special_tokens=[(BETWEEN, backend.token_to_id(BETWEEN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BETWEEN, eos_token=BETWEEN, model_max_length=max_length
    )


def _words(texts: Iterable[str]) -> Counter[str]:
    backend = BertTokenizer().backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        pieces = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
        counts.update(word for word, _ in pieces)
    return counts


def _spelled(words: Counter[str], inner: dict[str, str]) -> Iterator[str]:
    for word in sorted(words):
        spelled = word[0] + "".join(inner[char] for char in word[1:])
        for _ in range(words[word]):
            yield spelled


def _wordpiece(piece: str, outer: dict[str, str]) -> str:
    text = "".join(outer.get(char, char) for char in piece)
    return f"##{text}" if piece[0] in outer else text
