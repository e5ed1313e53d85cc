#!/usr/bin/env bash
# Calling a fast tokenizer changes what it saves: transformers 5.23.0 leaves the truncation of the last call in the backend, and
# `save_pretrained` writes it into tokenizer.json. Whoever reads that file with tokenizers 0.23.3, as apps do, gets texts cut to
# the length of whatever was tokenised last, with no setting in tokenizer_config.json that says so.
# Seen on Linux x86_64, Python 3.11, 2026-11-30: 20 words are 20 ids before, 8 after one call with max_length=8.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$place"
"$place/venv/bin/python" - > seen 2> /dev/null <<'PY'
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

backend = Tokenizer(models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
for when in ("before", "after"):
    tokenizer.save_pretrained(when)
    saved = Tokenizer.from_file(f"{when}/tokenizer.json")
    print(f"{when}: {len(saved.encode('word ' * 20).ids)} ids, truncation {saved.truncation is not None}")
    tokenizer("word " * 20, truncation=True, max_length=8)
PY
diff - seen <<'EXPECTED'
before: 20 ids, truncation False
after: 8 ids, truncation True
EXPECTED
cat seen
