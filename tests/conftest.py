"""Two-layer checkpoints of every family, a word tokenizer and a data set small enough to build in each test."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from stages.core import artifact
from stages.models import families

NARROWER = {
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 32},
    "modernbert": {"local_attention": 8},  # a second kind of attention that does not see the whole text
}
INTENTS = {"alarm": "wake", "lights": "lamp", "music": "song", "weather": "rain"}
FILLERS = [f"word{number}" for number in range(40)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *INTENTS.values(), *FILLERS]


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


def shape_of(family, hidden_size=32, ffn_size=48, layers=2):
    """Sizes of a small model, under the names that its family gives them."""
    fields = families.find(family)
    sizes = {fields.hidden_size: hidden_size, fields.ffn_size: ffn_size, fields.heads: 4, fields.layers: layers}
    return sizes | NARROWER.get(family, {})


@pytest.fixture(scope="session")
def make_model():
    """Build a random classifier: family, seed and config overrides in, a model in eval mode out."""

    def build(family="bert", seed=0, **overrides):
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification

        labels = sorted(INTENTS)
        # The stock 0.02 lets a part be removed unseen; MobileBERT has no normalisation that would hold 0.3 in.
        spread = {"initializer_range": 0.1 if family == "mobilebert" else 0.3}
        first = families.find(family).first_position({"pad_token_id": 0})
        tables = {"max_position_embeddings": 16 + first, "pad_token_id": 0, "vocab_size": len(VOCABULARY)}
        config = AutoConfig.for_model(
            family,
            id2label=dict(enumerate(labels)),
            label2id={name: index for index, name in enumerate(labels)},
            **{**tables, **shape_of(family), **spread, **overrides},
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
            for parameter in model.parameters():  # biases start at 0, where removing one proves nothing
                if parameter.ndim == 1:
                    parameter.data += 0.1 * torch.randn_like(parameter)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A prepared data set: one word decides the intent; lengths vary."""
    out = tmp_path_factory.mktemp("build") / "data"
    random = np.random.default_rng(0)
    with artifact.writing(out, stage="prepare", parents={}) as temporary:
        for split, size in {"train": 96, "validation": 24, "test": 40, "calibration": 16, "probe": 16}.items():
            lines = [json.dumps(_utterance(random)) for _ in range(size)]
            (temporary / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        artifact.write_json(temporary / "labels.json", sorted(INTENTS))
    return out


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


def _utterance(random):
    intent = str(random.choice(sorted(INTENTS)))
    words = [str(word) for word in random.choice(FILLERS, random.integers(1, 9))]
    words.insert(int(random.integers(len(words) + 1)), INTENTS[intent])
    return {"text": " ".join(words), "label": intent}
