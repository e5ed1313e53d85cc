#!/usr/bin/env bash
# A config of three labels is saved with their names, one of two labels without any: transformers 5.23.0 leaves out what
# equals its default, and two labels called LABEL_0 and LABEL_1 are its default. Clients that read id2label from
# config.json (Transformers.js, Optimum, servers) find it in every classifier but the commonest kind, the binary one.
# Seen on Linux x86_64, Python 3.11, 2026-11-30.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0
cd "$place"
"$place/venv/bin/python" - > seen 2> /dev/null <<'PY'
import json
from pathlib import Path

from transformers import BertConfig

for labels in (3, 2):
    BertConfig(num_labels=labels).save_pretrained(str(labels))
    saved = json.loads(Path(str(labels), "config.json").read_text(encoding="utf-8"))
    print(labels, saved.get("id2label"), saved.get("num_labels"))
PY
diff - seen <<'EXPECTED'
3 {'0': 'LABEL_0', '1': 'LABEL_1', '2': 'LABEL_2'} None
2 None None
EXPECTED
cat seen
