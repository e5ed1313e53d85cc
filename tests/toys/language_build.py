"""A random LLaMA, the texts it is asked about, and what every stage makes of both, from data to an artifact."""

import numpy as np

from stages import compress, convert, distill, parity, prepare, quantize, reference, teacher
from stages.core import artifact
from stages.measure import items
from tests.composed import composed
from tests.toys.classifiers import OUTSIDE
from tests.toys.decoders import random_llama
from tests.toys.tokenizers import learned_bytes

LENGTH = 24
TASK = {"name": "generate", "max_length": LENGTH, "sequence_lengths": [LENGTH]}
WORDS = ["the", "a", "small", "red", "old", "fox", "house", "river", "runs", "sleeps", "under", "over", "and", "then",
         "sings"]  # fmt: skip


def sentences(count):
    """Write twelve words and a number each."""
    random = np.random.default_rng(5)
    return [" ".join(random.choice(WORDS, 12)) + f" {number}." for number in range(count)]


def llama(directory):
    """Save a LLaMA with a byte-level tokenizer that begins every text with a token of its own."""
    from tokenizers import decoders, processors
    from transformers import PreTrainedTokenizerFast

    backend = learned_bytes(sentences(200), 320, ["<s>"])
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<s>").save_pretrained(directory)
    random_llama(3, vocab_size=320, bos_token_id=0, eos_token_id=0).save_pretrained(directory)
    return directory


def prepared(out, count):
    """Write a book of so many sentences, and the output of `prepare` for it; return that."""
    (out / "book.txt").write_text("\n\n".join(sentences(count)), encoding="utf-8")
    asked = composed("task=generate", "data=text", f"data.path={out}/book.txt", "data.piece_characters=40")["data"]
    prepare.run(prepare.Params.model_validate({"task": TASK, "data": asked}), out / "data")
    return out / "data"


def taught(data, directory, out):
    """Take a checkpoint in as the teacher."""
    told = OUTSIDE | {"path": str(directory), "revision": None, "licence": "x"}
    teacher.run(teacher.Params.model_validate({"task": TASK, "teacher": told}), data, out)


def make(given, out):
    """Run all stages from data to the converted model on a checkpoint from outside; return `out`."""
    taught(prepared(out, 300), given, out / "teacher")
    whole = composed("student=none")
    told = {name: whole[name] for name in ("student", "transfer", "distill")}
    settings = distill.Params.model_validate({"task": TASK, **told})
    distill.run(settings, out / "data", out / "teacher", out / "transfer", out / "student")
    settings = compress.Params.model_validate({"task": TASK, "compression": {"kind": "none"}})
    compress.run(settings, out / "data", out / "student", out / "none")
    reference.run(reference.Params.model_validate({"task": TASK}), out / "data", out / "none", out / "reference")
    target = composed()["targets"]["onnx-cpu"]
    convert.run(convert.Params.model_validate({"task": TASK, "target": target}), out / "none", out / "converted")
    return out


def lowered(build, precision):
    """Return the ONNX artifact, what parity measures of it and its items, made once."""
    artifact_dir, measured = build / precision, build / f"{precision}-parity"
    if not measured.is_dir():
        whole = composed()
        told = {"precision": whole["precisions"][precision], "target": whole["targets"]["onnx-cpu"]}
        quantize.run(quantize.Params.model_validate(told), build / "converted", build / "reference", artifact_dir)
        places = {"teacher": build / "teacher", "data": build / "data", "checkpoint": build / "none"}
        inputs = parity.Inputs(converted=build / "converted", reference=build / "reference", **places)
        parity.run("onnx-cpu", artifact_dir, inputs, measured)
    return artifact_dir, artifact.read_json(measured / "metrics.json"), items.read(measured)
