#!/usr/bin/env bash
# tokenizer.json says whole how a text becomes ids. transformers 5.23.0 does not take it at its word where
# tokenizer_config.json names `BertTokenizer`: it builds the normaliser anew from that class's defaults, so a file that keeps
# capitals is read as one that lowers them, without a word, and `save_pretrained` writes the change into tokenizer.json.
# tokenizers 0.23.3, reading the same file, keeps them. With `PreTrainedTokenizerFast` in the config both agree.
# Seen on Linux x86_64, Python 3.11, 2026-11-30: 'Paris' is [2] to tokenizers, [3] to AutoTokenizer, and [3] in the file saved.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$place"
"$place/venv/bin/python" - > seen 2> /dev/null <<'PY'
import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

words = {"[PAD]": 0, "[UNK]": 1, "Paris": 2, "paris": 3, "[CLS]": 4, "[SEP]": 5, "[MASK]": 6}
cased = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
cased.normalizer = normalizers.BertNormalizer(lowercase=False)
cased.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
for name in ("PreTrainedTokenizerFast", "BertTokenizer"):
    Path(name).mkdir()
    cased.save(f"{name}/tokenizer.json")
    config = {"tokenizer_class": name, "unk_token": "[UNK]", "pad_token": "[PAD]"}
    Path(name, "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = AutoTokenizer.from_pretrained(name)
    loaded.save_pretrained(f"{name}-saved")
    ids = [
        Tokenizer.from_file(f"{name}/tokenizer.json").encode("Paris", add_special_tokens=False).ids,
        loaded.encode("Paris", add_special_tokens=False),
        Tokenizer.from_file(f"{name}-saved/tokenizer.json").encode("Paris", add_special_tokens=False).ids,
    ]
    print(f"{name}: file {ids[0]}, AutoTokenizer {ids[1]}, saved file {ids[2]}")
PY
diff - seen <<'EXPECTED'
PreTrainedTokenizerFast: file [2], AutoTokenizer [2], saved file [2]
BertTokenizer: file [2], AutoTokenizer [3], saved file [3]
EXPECTED
cat seen
