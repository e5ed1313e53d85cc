"""What of a bundle is a language model's own: rules of generating, greedy text, words; a target's forms in a module.

golden.json             beginnings of ours with their ids, and the checkpoint's greedy text with the lead of each token
limits.json             `generation`: what a text begins with, what ends it, how the checkpoint wants it drawn
litert/model.litertlm   tflite-nnapi: model, tokenizer and rules in the file that LiteRT-LM takes
hf/                     onnx-cpu: configs, tokenizer and graph for Transformers.js and onnxruntime-genai
coreml/                 coreml-metal: the package as Xcode shows it, and tokenizer files
samples/                short programs that load the bundle they lie in, and stream
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from stages.core.names import module_name
from stages.releasing.forms import TargetForms, Words, alone
from stages.releasing.source import Source
from stages.releasing.tokenization import Tokenization
from stages.targets.base import Inputs
from stages.tasks.base import IDS
from stages.tasks.generate.forms import golden, rules

WORDS = Words(
    kind="text-generation",
    model="A causal language model",
    use="A text in, the token that follows it out; fed back, the text goes on, up to {max_length} tokens in all.",
    score="finds {value:.3g} tokens as likely as the one that follows, over {n} tokens",
    inputs={
        "onnx-cpu": "input_ids int64 [1, n]: further tokens of a text; attention_mask int64 [1, total]: ones, for "
        "those before as well; past_key_values.L.key and .value float32 [1, groups, past, head_size] of each layer L",
        "coreml-metal": "input_ids int32 [1, n], n up to {max_length}: further tokens of a text; position int32 [1]: "
        "how many came before; states key_cache_L and value_cache_L float16 [1, groups, {max_length}, head_size]",
        "tflite-nnapi": "tokens int32 [1, n], n of the signature: further tokens of a text; input_pos int32 [n]: where "
        "they stand; kv_cache_k_L and kv_cache_v_L float32 [1, groups, {max_length}, head_size] of each layer L",
    },
    outputs={
        "onnx-cpu": "logits float32 [1, 1, vocabulary] of what follows the last token; present.L.key and .value: what "
        "the next call takes as past",
        "coreml-metal": "logits float32 [1, 1, vocabulary] of what follows the last token; states are written in place",
        "tflite-nnapi": "logits float32 [1, 1, vocabulary] of what follows the token, of signature decode; "
        "kv_cache_k_L and kv_cache_v_L: what the next call takes",
    },
    caution="It continues any text, with words that are likely and need not be true.",
    truncation={"rule": "A text and its continuation have {max_length} tokens at most; begin anew with the end of it."},
)
FROM_DATA: tuple[str, ...] = ()
SAMPLES = Path(__file__).with_name("samples")
limits, tokenizer_settings, copies = rules.limits, rules.tokenizer_settings, golden.copies


def of_target(target: str) -> TargetForms:
    """Import the forms of a target's artifacts; the artifact alone where there are no others yet."""
    if importlib.util.find_spec(f"stages.tasks.generate.forms.{module_name(target)}") is None:
        return alone(target)
    return cast(TargetForms, importlib.import_module(f"stages.tasks.generate.forms.{module_name(target)}"))


def labels(places: Mapping[str, Path]) -> list[str]:  # noqa: ARG001 (the classes are the tokenizer's)
    """Return no names: the classes are tokens."""
    return []


def answered(source: Source, inputs: Inputs) -> dict[str, Any]:
    """Return the token that is likeliest to follow each token of a text but the last, none after a single one."""
    several = inputs[IDS].shape[1] > 1
    return {"following": source.answer(inputs).argmax(axis=-1).tolist() if several else []}


def misnamed(source: Source, answered: Mapping[str, Any]) -> bool:  # noqa: ARG001 (it has no names)
    """Return that none is."""
    return False


def beside(source: Source) -> dict[str, str]:
    """Return greedy text for clients to check themselves with."""
    return {golden.GOLDEN: golden.text(source)}


def differences(bundle: Path, source: Tokenization) -> Iterator[str]:  # noqa: ARG001 (the tokenizer is compared already)
    """Name a form's copy of the artifact that is another."""
    from stages.tasks.generate.forms import coreml_metal, litertlm, onnx_cpu

    for form in (onnx_cpu, coreml_metal, litertlm):
        yield from form.differences(bundle)
