"""Every way a checkpoint from outside can be hostile, by a harmless stand-in, and how it is refused.

No input here would exhaust, hang or crash what reads it: a guard of memory, size or depth is shown a sound file, or one
a little out of the ordinary, under limits lowered to below it. `docs/import.md` shows the same table.
"""

import gzip
import json
import os
import pickle
import struct
import zipfile

import torch

from tests.toys.classifiers import LIMITS

CASES = {}
DEEP = 2_000  # brackets: more than Python's own JSON reader follows, and nothing to any other


def case(what, refusal, **lowered):
    """Register a function that makes a sound checkpoint hostile, what it stands for, the refusal, limits to lower."""

    def register(make):
        CASES[make.__name__] = (make, what, refusal, LIMITS.model_copy(update=lowered))
        return make

    return register


class Payload:
    """Unpickled, it leaves a file behind; pickled in a test's temporary directory, it leaves it there."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def header(path, change, body=b"", length=None):
    """Rewrite the header of a safetensors file; `body` goes to its end, `length` overrides the announced length."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    text = change(raw[8 : 8 + size])
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + raw[8 + size :] + body)


def tensors(change):
    """Lift a change of the header's mapping to one of its bytes."""

    def rewritten(text):
        names = json.loads(text)
        first = min(names.keys() - {"__metadata__"}, key=lambda name: names[name]["data_offsets"])
        change(names, first)
        return json.dumps(names).encode()

    return rewritten


def normalizer(path, *rules):
    edit(path, normalizer={"type": "Sequence", "normalizers": list(rules)})


@case("a pickle under the name `pytorch_model.bin`", r"has only pickled weights \('pytorch_model.bin'\)")
def pickled_weights(given, mark):
    (given / "model.safetensors").unlink()
    torch.save({"w": torch.zeros(2), "x": Payload(mark)}, given / "pytorch_model.bin")


@case("a pickle under the name `model.ckpt`", r"has only pickled weights \('model.ckpt'\)")
def pickled_checkpoint(given, mark):
    (given / "model.safetensors").unlink()
    (given / "model.ckpt").write_bytes(pickle.dumps(Payload(mark)))


@case("a pickle renamed to `model.safetensors`", "model.safetensors' is a pickle")
def pickle_in_disguise(given, mark):
    (given / "model.safetensors").write_bytes(pickle.dumps(Payload(mark)))


@case("a pickled checkpoint renamed to `model.safetensors`", "is a zip archive or a pickled checkpoint")
def torch_in_disguise(given, mark):
    torch.save({"x": Payload(mark)}, given / "model.safetensors")


@case("`auto_map` in `config.json`, with the module beside it", r"config.json' names code of its own \(auto_map\)")
def remote_code(given, mark):
    (given / "modeling.py").write_text(f"import os; os.system('touch {mark}')\nclass Evil: pass\n", encoding="utf-8")
    edit(given / "config.json", auto_map={"AutoConfig": "modeling.Evil"})


@case("`auto_map` in `tokenizer_config.json`", "tokenizer_config.json' names code of its own")
def remote_tokenizer(given, mark):
    (given / "tokenization.py").write_text(
        f"import os; os.system('touch {mark}')\nclass Evil: pass\n", encoding="utf-8"
    )
    edit(given / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tokenization.Evil"]})


@case("`auto_map` deep inside `config.json`", "names code of its own")
def nested_remote_code(given, mark):
    edit(given / "config.json", text_config={"inner": [{"auto_map": {"AutoModel": "modeling.Evil"}}]})


@case("`quantization_config`, which loads plug-ins of transformers", "describes quantised weights")
def quantizer_plugin(given, mark):
    edit(given / "config.json", quantization_config={"quant_method": "torchao"})


@case("`model.safetensors` is a symbolic link out of the directory", "is a link that leaves the directory")
def symlinked_weights(given, mark):
    (given / "model.safetensors").rename(given.parent / "elsewhere.safetensors")
    (given / "model.safetensors").symlink_to(given.parent / "elsewhere.safetensors")


@case("`tokenizer_config.json` is a symbolic link to a file of the host", "is a link that leaves the directory")
def symlinked_settings(given, mark):
    (given / "tokenizer_config.json").unlink()
    (given / "tokenizer_config.json").symlink_to("/etc/passwd")


@case("`tokenizer_config.json` names another vocabulary by path", r"points at a file elsewhere \(tokenizer_file: ")
def vocabulary_elsewhere(given, mark):
    edit(given / "tokenizer_config.json", tokenizer_file="/etc/passwd")


@case("`fast_tokenizer_files` with `../`", r"points at a file elsewhere \(fast_tokenizer_files: ")
def tokenizer_traversal(given, mark):
    edit(given / "tokenizer_config.json", fast_tokenizer_files=["../../tokenizer.9.9.9.json"])


@case("a shard index whose shards lie in `../../`", "names '../elsewhere.safetensors' as a shard; expected names as")
def shard_traversal(given, mark):
    (given / "model.safetensors").rename(given.parent / "elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": {"classifier.weight": "../elsewhere.safetensors"}}
    (given / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@case("something else than a file, which a reader might wait for", "tokenizer_config.json' is no regular file")
def no_file(given, mark):
    (given / "tokenizer_config.json").unlink()
    (given / "tokenizer_config.json").mkdir()


@case("a header that announces more bytes than the file has", "announces a header of 100000 bytes in a file of")
def long_header(given, mark):
    header(given / "model.safetensors", lambda text: text, length=100_000)


@case("a header larger than allowed", "announces a header of", header_bytes=1000)
def large_header(given, mark):
    """Sound, and larger than the lowered limit."""


@case("a header nested deep", "has a header that is not JSON")
def deep_header(given, mark):
    header(given / "model.safetensors", lambda _: b"[" * DEEP)


@case("a tensor of more elements than its bytes hold", "overlaps, leaves a gap, or is not as large as its shape")
def large_shape(given, mark):
    header(given / "model.safetensors", tensors(lambda names, first: names[first].update(shape=[32, 3])))


@case("a tensor with a negative extent", r"gives tensor '.*' dtype 'F32' and shape \[-1, -1\]")
def negative_shape(given, mark):
    header(given / "model.safetensors", tensors(lambda names, first: names[first].update(shape=[-1, -1])))


@case("a tensor with more dimensions than any has", r"gives tensor '.*' dtype 'F32' and shape \[1, 1")
def many_dimensions(given, mark):
    header(given / "model.safetensors", tensors(lambda names, first: names[first].update(shape=[1] * 8 + [32])))


@case("an element type that does not exist", "dtype 'F1024'")
def unknown_type(given, mark):
    header(given / "model.safetensors", tensors(lambda names, first: names[first].update(dtype="F1024")))


@case("two tensors over the same bytes", "overlaps, leaves a gap")
def overlap(given, mark):
    header(given / "model.safetensors", tensors(lambda names, first: names.update(twin=dict(names[first]))))


@case("offsets that run backwards", "without dtype, shape and ascending offsets")
def backwards(given, mark):
    header(given / "model.safetensors", tensors(lambda names, first: names[first].update(data_offsets=[8, 0])))


@case("bytes behind the last tensor: a second file smuggled in", "holds 11 bytes that belong to no tensor")
def smuggled(given, mark):
    header(given / "model.safetensors", lambda text: text, body=b"PK-smuggled")


@case("one name twice in the header, for readers to disagree about", "a name occurs twice")
def twins(given, mark):
    header(given / "model.safetensors", lambda text: b'{"__metadata__":{},' + text[1:])


@case("more tensors than allowed", "has 41 tensors, 40 are allowed", tensors=40)
def many_tensors(given, mark):
    """Sound, and of more tensors than the lowered limit."""


@case("weights larger than allowed", "model.safetensors' has .* bytes; expected at most", total_bytes=50_000)
def large_weights(given, mark):
    """Sound, and larger than the lowered limit."""


@case("`config.json` with a vocabulary larger than allowed", "has vocab_size: 49; expected no number", integer=48)
def large_vocabulary(given, mark):
    """Sound, and larger than the lowered limit."""


@case("`config.json` with more labels than allowed", "has num_labels: 65; expected no number above 64", integer=64)
def many_labels(given, mark):
    edit(given / "config.json", num_labels=65)


@case("`config.json` with more layers than allowed", "has 2 layers; expected at most 1", layers=1)
def many_layers(given, mark):
    """Sound, and of more layers than the lowered limit."""


@case(
    "`config.json` of a larger model than its weights, and than allowed",
    "describes a model of .* parameters; expected at most 20000",
    parameters=20_000,
)
def large_model(given, mark):
    edit(given / "config.json", intermediate_size=96)


@case("`config.json` nested deep", "cannot read '.*/config.json': maximum recursion")
def deep_settings(given, mark):
    (given / "config.json").write_text("[" * DEEP, encoding="utf-8")


@case(
    "one key twice in `config.json`, for readers to disagree about", "cannot read '.*/config.json': a name occurs twice"
)
def repeated_setting(given, mark):
    text = (given / "config.json").read_text(encoding="utf-8")
    (given / "config.json").write_text('{"hidden_size": 64,' + text.lstrip()[1:], encoding="utf-8")


@case("`tokenizer.json` larger than allowed", "tokenizer.json' has .* bytes; expected at most 2000", json_bytes=2000)
def large_tokenizer(given, mark):
    """Sound, and larger than the lowered limit."""


@case("Replace rules that make many characters of one", "Replace rules can make 81 characters of one")
def growing_rules(given, mark):
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaa"}
    normalizer(given / "tokenizer.json", rule, rule, rule, rule)


@case("a tokenizer that takes more time than allowed", "it did not end within 0 s", cpu_seconds=0)
def slow_tokenizer(given, mark):
    """Sound, and slower than the lowered limit."""


@case("padding to more tokens than the text has", "it makes 100 tokens of 64 characters", tokenizer_growth=1)
def long_padding(given, mark):
    padding = {"strategy": {"Fixed": 100}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    edit(given / "tokenizer.json", padding={**padding, "pad_to_multiple_of": None})


@case("`tokenizer.json` nested deep", "cannot be used: RecursionError")
def deep_tokenizer(given, mark):
    (given / "tokenizer.json").write_text("[" * DEEP, encoding="utf-8")


@case("`model.safetensors.gz`, of whatever size unpacked", "in an archive, and nothing is decompressed here")
def compressed_weights(given, mark):
    weights = (given / "model.safetensors").read_bytes()
    (given / "model.safetensors").unlink()
    (given / "model.safetensors.gz").write_bytes(gzip.compress(weights))


@case("a gzip archive under the name `model.safetensors`", "is a gzip archive")
def gzip_in_disguise(given, mark):
    (given / "model.safetensors").write_bytes(b"\x1f\x8b\x08" + b"\0" * 64)


@case("a zip archive, wherever its entries lead", "in an archive, and nothing is decompressed here")
def zipped_weights(given, mark):
    with zipfile.ZipFile(given / "checkpoint.zip", "w") as archive:
        archive.write(given / "model.safetensors", "model.safetensors")
    (given / "model.safetensors").unlink()
