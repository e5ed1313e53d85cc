"""What may break in a language model's artifacts, and in what ships beside them."""

from stages.injecting.catalogue import ANYWHERE, LAYERS, TABLES
from stages.injecting.checkpoint import TOKENIZER

STORED = {**LAYERS, **TABLES, **ANYWHERE}
INTERFACE = TOKENIZER
