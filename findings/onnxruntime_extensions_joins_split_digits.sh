#!/usr/bin/env bash
# A byte-level BPE tokenizer.json whose pre-tokenizer is Sequence[Digits(individual_digits), ByteLevel], as SmolLM2's, never has two
# digits in one token. The tokenizer of onnxruntime-extensions 0.15.2, which onnxruntime-genai encodes prompts with, reads the file
# without a word and joins digits wherever the vocabulary has the pair: other ids, other text, no error.
# Seen on Linux x86_64, Python 3.11, 2026-12-01 (tokenizers 0.22.1): `12` is two tokens in one and one in the other.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.22.1 onnxruntime-extensions==0.15.2 numpy
cd "$place"
cat > encode.py <<'PROGRAM'
import json
from pathlib import Path

from onnxruntime_extensions.pp_api import Tokenizer as Extensions
from tokenizers import Tokenizer, models, pre_tokenizers

vocabulary = {piece: index for index, piece in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "ab"])}
pieces = list(vocabulary)
plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])
for name, rule in {"ByteLevel": plain, "Digits": split}.items():
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "2"), ("a", "b")]))
    tokenizer.pre_tokenizer = rule
    Path(name).mkdir()
    tokenizer.save(f"{name}/tokenizer.json")
    Path(name, "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    print(name, "tokenizers:", *tokenizer.encode("ab12").tokens)
    print(name, "onnxruntime-extensions:", *(pieces[int(index)] for index in Extensions(name).tokenize("ab12")))
PROGRAM
venv/bin/python encode.py > seen
diff - seen <<'EXPECTED'
ByteLevel tokenizers: ab 12
ByteLevel onnxruntime-extensions: ab 12
Digits tokenizers: ab 1 2
Digits onnxruntime-extensions: ab 12
EXPECTED
cat seen
