"""Splits of the toy data, and settings of conf/compression made quick."""

import pytest
from pydantic import TypeAdapter

from stages.core import splits
from stages.models.encode import encode
from stages.models.recovery import Utterances
from stages.schema.compression import Compression
from tests.composed import composed


@pytest.fixture
def examples(data, tokenizer):
    found = {}
    for name in ("train", "validation"):
        split = splits.read_split(data, name)
        found[name] = Utterances(encode(tokenizer, split.texts, 12), split.labels, tuple(split.texts))
    return found


@pytest.fixture(scope="session")
def settings():
    """Take a compression of conf/: name and changes in, a section with one epoch out."""

    def read(name, training=None, **changes):
        tree = composed()["compressions"][name]
        if tree.get("recovery"):
            tree["recovery"]["training"] |= {"epochs": 1.0, "batch_size": 32, **(training or {})}
        return TypeAdapter(Compression).validate_python(tree | changes)

    return read
