"""Tests of `stages/tasks/generate/forms/litertlm.py`: what LiteRT-LM takes follows from the bundle, byte for byte."""

import json
import zlib

import pytest

from stages.tasks.generate.forms import litertlm

pytestmark = pytest.mark.target
GENERATION = {"begins_with": [1], "defaults": {}, "ends_with": [], "stop_ids": [2, 7]}
MODEL = b"any model's bytes" * 3000


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text('{"model": {}}', "utf-8")
    (tmp_path / "model.tflite").write_bytes(MODEL)
    said = {"forms": {"litert": {"path": "model.tflite"}}, "generation": GENERATION, "max_length": 40}
    (tmp_path / "limits.json").write_text(json.dumps(said), "utf-8")
    litertlm.write(tmp_path, "model.tflite", GENERATION, 40)
    return tmp_path


def sections(path):
    """Read a file with the schema that LiteRT-LM's own reader has: what is said of it, and its sections by type."""
    from litert_lm_builder import litertlm_header_schema_py_generated as schema

    content = path.read_bytes()
    header = schema.LiteRTLMMetaData.GetRootAs(content[32 : int.from_bytes(content[24:32], "little")], 0)
    entries = [header.SystemMetadata().Entries(at) for at in range(header.SystemMetadata().EntriesLength())]
    value, told = schema.StringValue(), {}
    for entry in entries:
        value.Init(entry.Value().Bytes, entry.Value().Pos)
        told[entry.Key().decode()] = value.Value().decode()
    places = [header.SectionMetadata().Objects(at) for at in range(header.SectionMetadata().ObjectsLength())]
    assert all(place.BeginOffset() % 16384 == 0 for place in places)
    found = {place.DataType(): content[place.BeginOffset() : place.EndOffset()] for place in places}
    return content[:8], told, {name: found[getattr(schema.AnySectionDataType, name)] for name in NAMES}


NAMES = ("LlmMetadataProto", "HF_Tokenizer_Zlib", "TFLiteModel")


def told(generation, template=None):
    from litert_lm_builder.runtime.proto.llm_metadata_pb2 import LlmMetadata

    return LlmMetadata.FromString(litertlm.metadata(generation, 40, template))


def test_it_holds_the_bundles_model_and_tokenizer(bundle):
    magic, _, found = sections(bundle / litertlm.FORM)
    tokenizer = (bundle / "tokenizer" / "tokenizer.json").read_bytes()
    assert magic == b"LITERTLM"
    assert found["TFLiteModel"] == MODEL
    assert zlib.decompress(found["HF_Tokenizer_Zlib"][8:]) == tokenizer
    assert int.from_bytes(found["HF_Tokenizer_Zlib"][:8], "little") == len(tokenizer)


def test_the_same_parts_are_the_same_bytes_and_others_have_another_id(bundle):
    first = (bundle / litertlm.FORM).read_bytes()
    _, header, _ = sections(bundle / litertlm.FORM)
    litertlm.write(bundle, "model.tflite", GENERATION, 40)
    assert (bundle / litertlm.FORM).read_bytes() == first
    assert header.keys() == {"uuid"}
    litertlm.write(bundle, "model.tflite", GENERATION, 39)
    assert sections(bundle / litertlm.FORM)[1] != header


def test_it_says_what_begins_and_ends_a_text_and_how_it_is_drawn():
    found = told(GENERATION, "{{ messages }}")
    assert list(found.start_token.token_ids.ids) == [1]
    assert [list(stop.token_ids.ids) for stop in found.stop_tokens] == [[2], [7]]
    assert (found.max_num_tokens, found.jinja_prompt_template) == (40, "{{ messages }}")
    assert (found.sampler_params.type, found.sampler_params.k) == (3, 1)
    drawn = told(GENERATION | {"defaults": {"do_sample": True, "temperature": 0.5, "top_k": 9}}).sampler_params
    assert (drawn.type, drawn.k, drawn.p, drawn.temperature) == (2, 9, 1.0, 0.5)


def test_a_text_that_begins_with_nothing_is_not_given_a_first_token():
    assert list(told(GENERATION | {"begins_with": []}).start_token.token_ids.ids) == []
    assert litertlm.why_not(GENERATION) == ""
    assert "several" in litertlm.why_not(GENERATION | {"begins_with": [1, 3]})


LETTERS = ["\u2581was", "\u2581a", "b"]
FUSED = [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}


@pytest.mark.parametrize("decoder", [{"type": "Sequence", "decoders": [*FUSED, STRIP]}, METASPACE])
def test_what_follows_a_text_keeps_the_space_between_the_two(decoder):
    assert spelled(decoder) == "was ab"
    assert spelled(json.loads(litertlm.continuing(json.dumps({"decoder": decoder}).encode()))["decoder"]) == " was ab"


@pytest.mark.parametrize("decoder", [None, {"type": "ByteLevel"}, {"type": "Sequence", "decoders": FUSED}])
def test_a_tokenizer_that_takes_no_space_off_stays_as_it_is_to_the_byte(decoder):
    content = json.dumps({"decoder": decoder}, indent=3).encode()
    assert litertlm.continuing(content) == content


def spelled(decoder):
    from tokenizers import Tokenizer, models

    made = json.loads(Tokenizer(models.BPE()).to_str()) | {"decoder": decoder}
    return Tokenizer.from_str(json.dumps(made)).decoder.decode(LETTERS)


@pytest.mark.parametrize("changed", ["model.tflite", "tokenizer/tokenizer.json", "limits.json", litertlm.FORM])
def test_any_part_that_differs_is_named(bundle, changed):
    assert list(litertlm.differences(bundle)) == []
    content = (bundle / changed).read_bytes()
    replaced = content.replace(b"any", b"ANY").replace(b'{"model"', b'{"MODEL"').replace(b": 40", b": 39")
    assert replaced != content
    (bundle / changed).write_bytes(replaced)
    assert list(litertlm.differences(bundle)) == [
        f"'{litertlm.FORM}' is not what the bundle's model, tokenizer and limits make"
    ]
