"""What the code asks about a family of encoders, and what its answers are made of.

Nothing here or in a family's file imports torch or transformers, so that stages without them can ask too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from stages.models.families.decoder import Array, Decoder


@dataclass(frozen=True)
class Rule:
    """What a setting of config.json may be.

    Attributes:
        fits: tells whether a value is taken.
        expected: the same in words.
        next_step: what to do about any other value.
    """

    fits: Callable[[Any], bool]
    expected: str
    next_step: str = ""


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def one_of(*values: Any, next_step: str = "") -> Rule:
    """Take these values, of these types, alone."""
    taken = [(type(value), value) for value in values]
    shown = " or ".join("null" if value is None else str(value).lower() for value in values)
    return Rule(lambda value: (type(value), value) in taken, shown, next_step)


def or_null(rule: Rule) -> Rule:
    """Take null as well."""
    return replace(rule, fits=lambda value: value is None or rule.fits(value), expected=f"{rule.expected}, or null")


def _computed_in_fp32(value: Any) -> bool:
    """Whether transformers knows the activation; xIELU alone is computed in bfloat16, which no target has."""
    from transformers.activations import ACT2FN

    return isinstance(value, str) and value in ACT2FN and value != "xielu"


COUNT = Rule(lambda value: type(value) is int and value >= 1, "a whole number from 1 up")
INDEX = Rule(lambda value: type(value) is int and value >= 0, "a whole number from 0 up")
SHARE = Rule(lambda value: _number(value) and 0 <= value <= 1, "a number from 0 to 1")
SPREAD = Rule(lambda value: type(value) is float and _number(value) and value >= 0, "a finite fraction, as 0.02")
FLAG = Rule(lambda value: type(value) is bool, "true or false")
NAME = Rule(lambda value: isinstance(value, str), "a name")
ACTIVATION = Rule(_computed_in_fp32, "an activation that transformers computes in fp32")
MAPPING = Rule(lambda value: isinstance(value, dict), "a mapping")
ANY = Rule(lambda _value: True, "anything")

COMMON: Mapping[str, Rule] = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers"), COUNT),
    **dict.fromkeys(("num_attention_heads", "intermediate_size", "type_vocab_size"), COUNT),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), SHARE),
    "classifier_dropout": or_null(SHARE),
    "hidden_act": ACTIVATION,
    "initializer_range": SPREAD,
    "layer_norm_eps": SPREAD,
    "pad_token_id": or_null(INDEX),
}
"""What BERT computes with, and most families after it."""


@dataclass(frozen=True)
class Attention:
    """What a kind of attention lets a token see.

    Attributes:
        window: how many tokens it sees on either side of itself, None for all.
    """

    window: int | None = None


def parameters_of_row(linear: torch.nn.Linear) -> int:
    """Weights, and the bias if there is one, that make up an output."""
    return int(linear.in_features) + (linear.bias is not None)


@dataclass(frozen=True)
class Ffn:
    """A two-layer FFN: `units` = outputs of `up` = inputs of `down`.

    Attributes:
        up: hidden → units.
        down: units → hidden.
        gate: hidden → units, what each unit is multiplied by; None without. The same Linear as `up` where one holds
            both, `up` first.
    """

    up: torch.nn.Linear
    down: torch.nn.Linear
    gate: torch.nn.Linear | None = None

    @property
    def rows(self) -> tuple[torch.nn.Linear, ...]:
        """Matrices with a row per unit; a packed one stands here as often as it has rows for each."""
        return (self.up,) if self.gate is None else (self.up, self.gate)

    @property
    def unit_parameters(self) -> int:
        """Weights and biases that go with a unit."""
        return sum(parameters_of_row(linear) for linear in self.rows) + int(self.down.out_features)


@dataclass(frozen=True)
class Block:
    """One encoder layer with weights of its own; layers that share them, as ALBERT's of a group, are one block.

    Attributes:
        query: hidden → heads × head_size, like `key` and `value`. All three are the same Linear where one holds them,
            one after the other.
        key: see `query`; of fewer heads where several in turn share theirs.
        value: see `query`.
        output: heads × head_size → hidden; its input is the heads' outputs side by side.
        head_size: width of one head; transformers derives it from the unpruned config, so it survives pruning.
        ffns: one, or several in MobileBERT.
    """

    query: torch.nn.Linear
    key: torch.nn.Linear
    value: torch.nn.Linear
    output: torch.nn.Linear
    head_size: int
    ffns: tuple[Ffn, ...]

    @property
    def heads(self) -> int:
        """Heads that are left."""
        return int(self.output.in_features) // self.head_size

    @property
    def rows(self) -> tuple[torch.nn.Linear, ...]:
        """Matrices with `head_size` rows per head; a packed one stands here as often as it has them."""
        return (self.query, self.key, self.value)

    @property
    def shared(self) -> int:
        """How many heads, one after the other, share their keys and values: they can only go together."""
        return 1 if self.key is self.query else int(self.query.out_features) // int(self.key.out_features)

    @property
    def head_parameters(self) -> int:
        """Weights and biases that go with a head, or with those that share keys and values."""
        rows = sum(parameters_of_row(linear) * (self.shared if linear is self.query else 1) for linear in self.rows)
        return self.head_size * (rows + self.shared * int(self.output.out_features))


def bert_block(layer: Any) -> Block:
    """Read a layer that is built as BERT's."""
    attention = layer.attention
    return Block(
        attention.self.query,
        attention.self.key,
        attention.self.value,
        attention.output.dense,
        attention.self.attention_head_size,
        (Ffn(layer.intermediate.dense, layer.output.dense),),
    )


WORDS_WIDTH = 128
"""Published width of word embeddings that do not grow with the layers: ALBERT's, MobileBERT's, small ELECTRA's."""


def narrow_words(fields: Mapping[str, Any], hidden_size: int, _heads: int) -> dict[str, int]:
    """Keep such embeddings from being wider than the layers."""
    return {"embedding_size": min(fields["embedding_size"], hidden_size)}


BERT_WEIGHTS: Mapping[str, str] = {
    "query": "query.weight",
    "key": "key.weight",
    "output": "attention.output.dense.weight",
    "up": "intermediate.dense.weight",
    "words": "word_embeddings.weight",
    "positions": "position_embeddings.weight",
}


@dataclass(frozen=True)
class Family:
    """One family; what is not said is as in BERT.

    Attributes:
        name: `model_type` of its config.
        layers: config field with the number of layers.
        hidden_size: config field with their width.
        attention_width: config field with the width that the heads divide.
        heads: config field with the attention heads per layer.
        groups: config field with the keys and values per layer that heads share; "" where each has its own.
        head_size: config field with the width of a head; "" where it follows from the others, and a checkpoint that
            lacks heads has to say which (`pruned_heads`).
        ffn_size: config field with the units of an FFN.
        activation: config field with the FFN's activation.
        rules: what each field of its config may say.
        legacy: the same of settings that transformers reads another field from.
        copies: content of a config.json → settings in it that repeat another one: name → that one.
        published: config fields in proportion to which `narrow` chooses those of a model from scratch.
        narrow: config fields, width and heads of the layers → what else follows from these.
        spread: config field with the spread of the weights that training from scratch begins with.
        rows_before: of the position table, which its config does not count and no token reads.
        padded_positions: whether positions are counted from the one after `pad_token_id`, not from 0, and stop where a
            text spells the padding token, which no artifact does.
        attentions: its config → kinds of attention by the names that its layers call them; one of no name where all
            layers have it.
        layer_kinds: config field with the kind of each layer.
        rotary: path, below the encoder, of the module that gives cosines and sines of positions; "" where positions
            are looked up in a table.
        neighbours: config field that says whether a token is embedded together with its neighbours.
        layer_list: path of the list of layers below the encoder.
        members: entry of that list → the layers in it.
        shares_layers: whether entries of that list stand for several layers.
        block: layer → its matrices.
        first_norm: path, below a layer, of the normalisation that begins it and that the first layer lacks, which
            reads what is normalised already; "" where all layers are alike.
        last_norm: path, below a layer, of the normalisation that ends it; "" where layers differ by more than weights.
        branches: paths, below a layer, of the modules whose results it adds to what it was given, where no module
            drops some of them in training.
        attention_dropout: end of the path of the modules, or of their shares, that drop attention weights.
        head: path of the linear layer that gives the logits.
        weights: part of a transformer → how its weight's name ends in a checkpoint.
        withheld: what a compression would take from its models → why it cannot.
        unused: beginning of a tensor's name → the class that has such a head, which the classifier says nothing with.
        ambiguous: config field → a value with which tensors do not tell a classifier of texts from one of words.
        decoder: content of config.json, tensors → what it computes, of a causal language model; None of an encoder.
    """

    name: str
    layers: str = "num_hidden_layers"
    hidden_size: str = "hidden_size"
    attention_width: str = "hidden_size"
    heads: str = "num_attention_heads"
    groups: str = ""
    head_size: str = ""
    ffn_size: str = "intermediate_size"
    activation: str = "hidden_act"
    rules: Mapping[str, Rule] = field(default_factory=lambda: COMMON)
    legacy: Mapping[str, Rule] = field(default_factory=dict)
    copies: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda _config: {"embedding_size": "hidden_size"}
    published: Mapping[str, Any] = field(default_factory=dict)
    narrow: Callable[[Mapping[str, Any], int, int], dict[str, int]] = lambda _fields, _hidden_size, _heads: {}
    spread: str = "initializer_range"
    padded_positions: bool = False
    rows_before: int = 0
    attentions: Callable[[Any], Mapping[str, Attention]] = lambda _config: {"": Attention()}
    layer_kinds: str = ""
    rotary: str = ""
    neighbours: str = ""
    layer_list: str = "encoder.layer"
    members: Callable[[Any], Iterable[Any]] = lambda layer: (layer,)
    shares_layers: bool = False
    block: Callable[[Any], Block] = bert_block
    first_norm: str = ""
    last_norm: str = "output.LayerNorm"
    branches: tuple[str, ...] = ()
    attention_dropout: str = "attention.self.dropout"
    head: str = "classifier"
    weights: Mapping[str, str] = field(default_factory=lambda: BERT_WEIGHTS)
    withheld: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    ambiguous: Mapping[str, Any] = field(default_factory=dict)
    decoder: Callable[[Mapping[str, Any], Mapping[str, Array]], Decoder] | None = None

    @property
    def parts(self) -> dict[str, str]:
        """`weights`, and that of the linear layer which gives the logits."""
        return {**self.weights, "classifier": f"{self.head}.weight"}

    @property
    def packed(self) -> int:
        """Matrices of as many rows that lie in the one of the queries: itself, keys and values or not."""
        return 1 if "key" in self.weights else 3

    def first_position(self, config: Any) -> int:
        """Position of the first token."""
        return int(setting(config, "pad_token_id")) + 1 if self.padded_positions else 0

    def first_row(self, config: Any) -> int:
        """Row of the position table that the first token reads, those counted that its config does not."""
        return self.first_position(config) + self.rows_before

    def position_ids(self, config: Any) -> NDArray[np.int64] | None:
        """Rows of the position table that the tokens of a text read, in order; None where the model counts from 0."""
        first = self.first_position(config)
        return np.arange(first, first + self.positions(config)) if self.padded_positions else None

    def positions(self, config: Any) -> int:
        """Tokens that the position table has rows for."""
        return int(setting(config, "max_position_embeddings")) - self.first_position(config)

    def reach(self, config: Any) -> int:
        """Positions of the padding that a text's answer depends on, whatever the mask says."""
        return int(bool(self.neighbours and setting(config, self.neighbours)))


def setting(config: Any, name: str) -> Any:
    """Read a field of a config, or of the content of a config.json; None where there is none."""
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
