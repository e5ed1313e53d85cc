"""`litert/model.litertlm`: the file that LiteRT-LM takes, with the model, its tokenizer and how a text begins and ends.

The same parts make the same bytes: LiteRT-LM's own builder puts a random id and the time of day into the header; here
the id follows from the content, and no time is told.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from stages.core import artifact
from stages.releasing.tokenization import TOKENIZER
from stages.tasks.generate.forms import rules

FORM = "litert/model.litertlm"
MODEL_TYPE = "tf_lite_prefill_decode"
"""What LiteRT-LM calls a model that has both kinds of signatures."""
Sections = Sequence[tuple[int, Sequence[tuple[str, str]], bytes]]
"""Type of data, what is said of it, and the data."""


def why_not(generation: Mapping[str, Any]) -> str:
    """Say why LiteRT-LM would write another text; nothing where it writes the same.

    Args:
        generation: of `limits.json`.
    """
    if len(generation["begins_with"]) > 1:
        return "LiteRT-LM puts one token before a text, and the tokenizer several"
    return ""


def write(bundle: Path, model: str, generation: Mapping[str, Any], room: int) -> str:
    """Write the file from a bundle's own parts.

    Args:
        bundle: with `tokenizer/`.
        model: where in it the `.tflite` lies.
        generation: as `limits.json` says it.
        room: tokens of a text.

    Returns:
        Where it lies.
    """
    (bundle / FORM).parent.mkdir(exist_ok=True)
    (bundle / FORM).write_bytes(packed(_parts(bundle, model, generation, room)))
    return FORM


def differences(bundle: Path) -> Iterator[str]:
    """Name the file where it is not what the bundle's other files make."""
    if (bundle / FORM).is_file():
        said = artifact.read_json(bundle / "limits.json")
        parts = _parts(bundle, said["forms"]["litert"]["path"], said["generation"], said["max_length"])
        if (bundle / FORM).read_bytes() != packed(parts):
            yield f"'{FORM}' is not what the bundle's model, tokenizer and limits make"


def _parts(bundle: Path, model: str, generation: Mapping[str, Any], room: int) -> Sections:
    from litert_lm_builder import litertlm_header_schema_py_generated as schema

    tokenizer = continuing((bundle / "tokenizer" / TOKENIZER).read_bytes())
    template = rules.template(bundle / "tokenizer" / TOKENIZER)
    kinds = schema.AnySectionDataType
    return [
        (kinds.LlmMetadataProto, [], metadata(generation, room, template)),
        (kinds.HF_Tokenizer_Zlib, [], len(tokenizer).to_bytes(8, "little") + zlib.compress(tokenizer)),
        (kinds.TFLiteModel, [("model_type", MODEL_TYPE)], (bundle / model).read_bytes()),
    ]


def continuing(tokenizer: bytes) -> bytes:
    """Return a `tokenizer.json` that spells the first token as it spells all others.

    LiteRT-LM spells what follows a text without that text. Tokenizers that put a space before every text take the first
    one off again, and with it the one between the text and what follows: `Lily was` goes on as `a little girl`.
    """
    said = json.loads(tokenizer)
    decoder = said.get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    kept = [_unstripped(part) for part in parts if (part.get("type"), part.get("start")) != ("Strip", 1)]
    if kept == parts:
        return tokenizer
    said["decoder"] = {"type": "Sequence", "decoders": kept}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def _unstripped(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part.get("type") != "Metaspace":
        return part
    return {"type": "Replace", "pattern": {"String": part["replacement"]}, "content": " "}


def metadata(generation: Mapping[str, Any], room: int, template: str | None) -> bytes:
    """Return what LiteRT-LM must know to write a text, as a protobuf message.

    Args:
        generation: of `limits.json`.
        room: tokens of a text.
        template: of a chat, None where there is none.
    """
    from litert_lm_builder.runtime.proto import llm_metadata_pb2, sampler_params_pb2

    told, said = llm_metadata_pb2.LlmMetadata(max_num_tokens=room), generation["defaults"]
    told.start_token.token_ids.ids.extend(generation["begins_with"])
    for stop in generation["stop_ids"]:
        told.stop_tokens.add().token_ids.ids.append(stop)
    told.llm_model_type.generic_model.SetInParent()
    drawn, kinds = told.sampler_params, sampler_params_pb2.SamplerParameters
    if said.get("do_sample"):  # where the checkpoint leaves one out, what transformers takes for it
        drawn.type, drawn.k = kinds.TOP_P, said.get("top_k", 50)
        drawn.p, drawn.temperature = said.get("top_p", 1.0), said.get("temperature", 1.0)
    else:
        drawn.type, drawn.k = kinds.GREEDY, 1
    if template is not None:
        told.jinja_prompt_template = template
    return bytes(told.SerializeToString(deterministic=True))


def packed(sections: Sections) -> bytes:
    """Return a file's bytes: a header, and each section at a multiple of the format's block."""
    import flatbuffers  # type: ignore[import-untyped]
    from litert_lm_builder import litertlm_core as core
    from litert_lm_builder import litertlm_header_schema_py_generated as schema

    def pair(key: str, value: str) -> Any:
        return schema.KeyValuePairT(key=key, value=schema.StringValueT(value), valueType=schema.VData.StringValue)

    at, places = core.BLOCK_SIZE, []
    for kind, told, data in sections:
        items = [pair(*item) for item in told]
        places.append(schema.SectionObjectT(items=items, dataType=kind, beginOffset=at, endOffset=at + len(data)))
        at += -(-len(data) // core.BLOCK_SIZE) * core.BLOCK_SIZE
    digest = sha256(b"".join(sha256(data).digest() for _, _, data in sections)).digest()
    header = schema.LiteRTLMMetaDataT(
        systemMetadata=schema.SystemMetadataT(entries=[pair("uuid", str(uuid.UUID(bytes=digest[:16])))]),
        sectionMetadata=schema.SectionMetadataT(objects=places),
    )
    builder = flatbuffers.Builder(core.BLOCK_SIZE)
    builder.Finish(header.Pack(builder))
    content, begin = bytes(builder.Output()), core.HEADER_BEGIN_BYTE_OFFSET
    assert begin + len(content) <= core.BLOCK_SIZE
    versions = (core.LITERTLM_MAJOR_VERSION, core.LITERTLM_MINOR_VERSION, core.LITERTLM_PATCH_VERSION)
    file = bytearray(places[-1].endOffset)
    preamble = core.HEADER_MAGIC_BYTES + b"".join(number.to_bytes(4, "little") for number in versions)
    file[: len(preamble)] = preamble
    end = core.HEADER_END_LOCATION_BYTE_OFFSET
    file[end : end + 8] = (begin + len(content)).to_bytes(8, "little")
    file[begin : begin + len(content)] = content
    for place, (_, _, data) in zip(places, sections, strict=True):
        file[place.beginOffset : place.endOffset] = data
    return bytes(file)
