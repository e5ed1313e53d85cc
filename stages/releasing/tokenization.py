"""A checkpoint's tokenizer as clients meet it: its files read once, and written in the words that all of them know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.core.errors import ArtifactError, first_line

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
VOCABULARY = "vocab.txt"
LOADING = ("backend", "is_local", "local_files_only")
"""What transformers 5 records of how it loaded a tokenizer here; older ones take it for an argument."""
UNKNOWN_CLASSES = {"", "TokenizersBackend"}
"""Names no client but transformers 5 knows (`Tokenizer class TokenizersBackend does not exist`)."""
GENERIC = "PreTrainedTokenizerFast"
ROLES = ("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token")
BERT = "BertTokenizer"
OF_KIND = {"Unigram": "XLMRobertaTokenizer", "WordPiece": BERT}
"""Kind of tokenizer → a class by which swift-transformers knows it; all others are BPE to it."""
ENDS = ("cls_token", "sep_token")
BREAKS = {"\n", "\r"}
BERT_TOKENS = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
BERT_WORD = 100
"""Letters beyond which BERT's own tokenizers call a word unknown."""


@dataclass(frozen=True)
class Tokenization:
    """A tokenizer's files.

    Attributes:
        content: `tokenizer.json`.
        config: `tokenizer_config.json`.
        max_length: tokens an input may have, special ones included.
        path: where `tokenizer.json` lies.
    """

    content: dict[str, Any]
    config: dict[str, Any]
    max_length: int
    path: Path

    @cached_property
    def unlike_bert(self) -> str:
        """Say which rule BERT's own class would not follow; nothing where vocabulary and settings say it all."""
        model, normaliser = self.content["model"], self.content.get("normalizer") or {}
        if model.get("type") != "WordPiece" or normaliser.get("type") != "BertNormalizer":
            return "the tokenizer is not WordPiece after BERT's normaliser"
        if not normaliser["clean_text"]:
            return "the tokenizer keeps control characters"
        if (self.content.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
            return "the tokenizer finds words otherwise than BERT's"
        if model.get("continuing_subword_prefix") != "##" or model.get("max_input_chars_per_word") != BERT_WORD:
            return "the tokenizer's word pieces are not marked or bounded as BERT's are"
        if model.get("unk_token") != self.special.get("unk_token", ("",))[0]:
            return "the tokenizer's pieces fall back to another token than its unk_token"
        empty, ends = self.backend.encode(""), [self.special.get(role, ("", None))[1] for role in ENDS]
        if empty.ids != ends or any(empty.type_ids):
            return "the tokenizer puts other tokens around a text than its cls_token and sep_token"
        return ""

    @property
    def is_bert(self) -> bool:
        """Whether it is BERT's: WordPiece after BERT's normaliser, between BERT's tokens, with whatever settings."""
        return not self.unlike_bert

    @cached_property
    def vocabulary(self) -> list[str] | None:
        """Return the tokens in the order of their ids; None where ids have gaps, as no `vocab.txt` could say."""
        ids = self.content["model"].get("vocab")
        if not isinstance(ids, dict) or sorted(ids.values()) != list(range(len(ids))):
            return None
        return sorted(ids, key=lambda token: int(ids[token]))

    @property
    def lines(self) -> list[str] | None:
        """Return what a `vocab.txt` holds, a token a line; None where its readers would count other lines.

        MediaPipe leaves out empty lines, and many readers end a line at a carriage return too.
        """
        words = self.vocabulary
        return None if words is None or any(not word or set(word) & BREAKS for word in words) else words

    @cached_property
    def special(self) -> dict[str, tuple[str, int]]:
        """Map each role (`cls_token`, …) that the tokenizer has to its token and id."""
        named = {role: self.config[role] for role in ROLES if self.config.get(role)}
        tokens = {role: token["content"] if isinstance(token, dict) else token for role, token in named.items()}
        return {role: (token, index) for role, token in tokens.items() if (index := self._id(token)) is not None}

    @cached_property
    def backend(self) -> Any:
        """The `tokenizers.Tokenizer`, cutting at `max_length` as every stage does."""
        from tokenizers import Tokenizer

        try:
            backend = Tokenizer.from_file(str(self.path))
        except Exception as error:  # tokenizers raises bare Exception on a malformed file
            raise ArtifactError(
                f"cannot read '{self.path}': {first_line(error)}", next_step="run `dvc repro`"
            ) from error
        backend.enable_truncation(self.max_length)
        return backend

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens included."""
        return list(self.backend.encode(text).ids)

    def client_config(self, more: Mapping[str, Any] | None = None, *, rules_from_file: bool = False) -> dict[str, Any]:
        """Write `tokenizer_config.json` so that transformers 4 and 5, Transformers.js and swift-transformers read it.

        Before: `"tokenizer_class": "TokenizersBackend"`, which transformers 4, onnxruntime-extensions and
        swift-transformers refuse. After: `BertTokenizer` with BERT's settings spelled out, because some clients build
        the normaliser from these and not from `tokenizer.json`; where they would build another one, the generic class,
        which reads the file; another class as it was.

        Args:
            more: what the task has it say.
            rules_from_file: for clients that take nothing but the model's kind from the class (swift-transformers),
                to which the generic one means BPE.
        """
        config = {key: value for key, value in self.config.items() if key not in LOADING}
        # Without, BERT's class adds token_type_ids, which the graph has no input for.
        config |= {
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": self.max_length,
            **(more or {}),
        }
        if not self.is_bert:
            stated = str(config.get("tokenizer_class", ""))
            name = GENERIC if stated in UNKNOWN_CLASSES | {BERT} else stated
            kind = self.content["model"].get("type")
            return config | {"tokenizer_class": OF_KIND.get(kind, name) if rules_from_file else name}
        normaliser = self.content["normalizer"]
        return config | {
            "do_lower_case": normaliser["lowercase"],
            "strip_accents": normaliser["strip_accents"],
            "tokenize_chinese_chars": normaliser["handle_chinese_chars"],
            "tokenizer_class": BERT,
        }

    def why_not_bert(self) -> str:
        """Say why a client with a BERT tokenizer of its own would cut texts otherwise; nothing where it would not.

        Those tokenizers (MediaPipe's, onnxruntime-extensions') take a `vocab.txt`, lower-case, and know the special
        tokens by BERT's names and no others.
        """
        if self.unlike_bert:
            return self.unlike_bert
        normaliser = self.content["normalizer"]
        kept = {
            "the vocabulary's ids have gaps, which no vocab.txt can say": self.vocabulary is None,
            "a token of the vocabulary is empty or holds a line break, which no vocab.txt can say": self.lines is None,
            "the tokenizer keeps upper case": not normaliser["lowercase"],
            "the tokenizer keeps accents": normaliser["strip_accents"] is False,
            "the tokenizer does not split Chinese characters": not normaliser["handle_chinese_chars"],
        }
        if reason := next((reason for reason, holds in kept.items() if holds), ""):
            return reason
        others = [role for role, token in BERT_TOKENS.items() if self.special.get(role, ("",))[0] != token]
        if others:
            return f"its {others[0]} is not {BERT_TOKENS[others[0]]}"
        named = {token for token, _ in self.special.values()}
        added = [token["content"] for token in self.content["added_tokens"] if token["content"] not in named]
        return f"the tokenizer has the added token {json.dumps(added[0], ensure_ascii=False)}" if added else ""

    def _id(self, token: str) -> int | None:
        index: int | None = self.backend.token_to_id(token)
        return index


def read(checkpoint: Path, max_length: int) -> Tokenization:
    """Read the tokenizer of a Hugging Face directory.

    Raises:
        ArtifactError: its files are missing or not JSON.
    """
    config = artifact.read_json(checkpoint / CONFIG)
    return Tokenization(artifact.read_json(checkpoint / TOKENIZER), config, max_length, checkpoint / TOKENIZER)


def write(
    tokenization: Tokenization, out: Path, *, more: Mapping[str, Any] | None = None, rules_from_file: bool = False
) -> None:
    """Write tokenizer files as clients take them into an existing directory: see `Tokenization.client_config`."""
    (out / TOKENIZER).write_bytes(tokenization.path.read_bytes())
    artifact.write_json(out / CONFIG, tokenization.client_config(more, rules_from_file=rules_from_file))
    if tokenization.is_bert and tokenization.lines is not None:
        (out / VOCABULARY).write_text(lines(tokenization.lines), encoding="utf-8")


def lines(items: list[str]) -> str:
    """Join names as `vocab.txt` and `labels.txt` hold them."""
    return "".join(f"{item}\n" for item in items)
