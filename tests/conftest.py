"""What most tests take of `tests/toys`, and the environment that every file of tests starts in."""

import os
from pathlib import Path

import pytest

from stages.models import families
from tests.toys import classifiers

TESTS = Path(__file__).parent
LONGEST = (
    "test_pipeline.py",
    "tasks/test_whole_graph.py",
    "targets/coreml_metal",
    "targets/tflite_nnapi",
    "targets/onnx_cpu",
)
"""Files and folders whose tests a process begins with: what is long and comes last leaves the other one idle."""


def group(place):
    """What shares costly artifacts, and so a process: the tests of a file, and all files of a target."""
    return next((name for name in LONGEST if place.startswith(f"tests/{name}")), place)


def pytest_collection_modifyitems(items):
    def order(item):
        name = group(item.nodeid)
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=order)


def pytest_xdist_make_scheduler(config, log):
    """Give whole groups to processes. xdist's own marks for that are without effect beside pytest 9.2 (xdist 3.8.0)."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid.partition("::")[0])

    return Groups(config, log)


@pytest.fixture(autouse=True, scope="module")
def _environment():
    """Every file of tests starts in the environment it was called in: MLflow keeps its tracking URI there."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(params=families.encoders())
def family(request):
    return request.param


@pytest.fixture(scope="session")
def make_model():
    """Build a random classifier: family, seed and config overrides in, a model in eval mode out."""
    return classifiers.classifier


@pytest.fixture(scope="session")
def tokenizer():
    return classifiers.words()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A prepared data set: one word decides the intent; lengths vary."""
    return classifiers.prepare(tmp_path_factory.mktemp("build") / "data")


@pytest.fixture(scope="session")
def read_examples(data, tokenizer):
    """Encode a split of the toy data as a classifier's examples: name and width in."""

    def read(name, max_length, tokenizer=tokenizer):
        from stages.core import splits
        from stages.tasks.examples import examples

        return examples("classify", tokenizer, splits.read_split(data, name), splits.read_labels(data), max_length)

    return read


@pytest.fixture(scope="session")
def real():
    """The real data and checkpoints beside the repository."""
    directory = Path(__file__).resolve().parents[1] / "../shared/real"
    if not directory.is_dir():
        pytest.skip("the real data and checkpoints do not lie beside the repository")
    return directory
