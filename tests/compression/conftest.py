"""Splits of the toy data, and settings of conf/compression made quick."""

from functools import partial

import pytest
from pydantic import TypeAdapter

from stages.models.recovery import Utterances
from stages.schema.compression import Compression
from tests.composed import composed


@pytest.fixture
def examples(read_examples):
    return {
        name: Utterances(**vars(read_examples(name, 12)), encode=partial(read_examples, name, 12))
        for name in ("train", "validation")
    }


@pytest.fixture(scope="session")
def settings():
    """Take a compression of conf/: name and changes in, a section with one epoch out."""

    def read(name, training=None, **changes):
        tree = composed()["compressions"][name]
        if tree.get("recovery"):
            tree["recovery"]["training"] |= {"epochs": 1.0, "min_steps": 1, "batch_size": 32, **(training or {})}
        return TypeAdapter(Compression).validate_python(tree | changes)

    return read
