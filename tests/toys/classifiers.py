"""Random two-layer classifiers of every family, their word tokenizer, and a data set in which one word decides."""

import json

import numpy as np
import yaml

from stages.core import artifact
from stages.core.closure import ROOT
from stages.models import families
from stages.schema.model import ImportLimits

NARROWER = {
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 32},
    "modernbert": {"local_attention": 8},  # a second kind of attention that does not see the whole text
}
INTENTS = {"alarm": "wake", "lights": "lamp", "music": "song", "weather": "rain"}
LABELS = sorted(INTENTS)
FILLERS = [f"word{number}" for number in range(40)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *INTENTS.values(), *FILLERS]
OUTSIDE = yaml.safe_load((ROOT / "conf/teacher/checkpoint.yaml").read_text(encoding="utf-8"))
"""The section of a teacher from outside."""
LIMITS = ImportLimits(**OUTSIDE["limits"])
SIZES = {"train": 96, "validation": 24, "test": 40, "calibration": 16, "probe": 16}


def shape_of(family, hidden_size=32, ffn_size=48, layers=2):
    """Sizes of a small model, under the names that its family gives them."""
    fields = families.find(family)
    sizes = {fields.hidden_size: hidden_size, fields.ffn_size: ffn_size, fields.heads: 4, fields.layers: layers}
    return sizes | NARROWER.get(family, {})


def classifier(family="bert", seed=0, **overrides):
    """Build a random classifier in eval mode; `overrides` are settings of its config."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    # The stock 0.02 lets a part be removed unseen; MobileBERT has no normalisation that would hold 0.3 in.
    spread = {"initializer_range": 0.1 if family == "mobilebert" else 0.3}
    first = families.find(family).first_position({"pad_token_id": 0})
    tables = {"max_position_embeddings": 16 + first, "pad_token_id": 0, "vocab_size": len(VOCABULARY)}
    config = AutoConfig.for_model(
        family,
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
        **{**tables, **shape_of(family), **spread, **overrides},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        for parameter in model.parameters():  # biases start at 0, where removing one proves nothing
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def words():
    """A tokenizer that knows the words of the data set and frames a text as BERT's does."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    from tests.toys.tokenizers import framed

    known = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    known.pre_tokenizer = Whitespace()
    return framed(known)


def compressed(model, directory, mask_constant=32.0):
    """Save a model with the profile that `convert` reads; return the directory."""
    model.save_pretrained(directory)
    artifact.write_json(directory / "profile.json", {"mask_constant": mask_constant})
    return directory


def published(directory, family="bert", **overrides):
    """Save a random classifier with its tokenizer as a checkpoint from outside; return the directory."""
    from stages.models import checkpoint

    directory.mkdir(parents=True, exist_ok=True)
    checkpoint.save(classifier(family, **overrides), words(), directory)
    return directory


def prepare(out):
    """Write the output of `prepare`: one word decides the intent; lengths vary."""
    random = np.random.default_rng(0)
    with artifact.writing(out, stage="prepare", parents={}) as temporary:
        for split, size in SIZES.items():
            lines = [json.dumps(_utterance(random)) for _ in range(size)]
            (temporary / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        artifact.write_json(temporary / "labels.json", LABELS)
    return out


def _utterance(random):
    intent = str(random.choice(LABELS))
    said = [str(word) for word in random.choice(FILLERS, random.integers(1, 9))]
    said.insert(int(random.integers(len(said) + 1)), INTENTS[intent])
    return {"text": " ".join(said), "label": intent}
