import pytest


@pytest.fixture(scope="session")
def subjects(tmp_path_factory):
    """A two-layer BERT converted at five precisions, and a stateful program; about 8 s of CPU."""
    from benchmarks.coreml_subjects import subjects

    return subjects(tmp_path_factory.mktemp("coreml"))
