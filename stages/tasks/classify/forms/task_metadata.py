"""The metadata that MediaPipe reads inside a `.tflite`: four kinds of table, written field by field.

Their schema (`metadata_schema.fbs` of tflite-support, identifier M001) is in none of our dependencies: these are those
of its tables that a text classifier needs. Field numbers follow from the order in which it declares the fields; a union
takes two, its type and its value. MediaPipe 1.2.2 reads the result.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
MIN_PARSER_VERSION = "1.5.0"
"""The first metadata parser that knows every field written here."""
INPUTS = ("ids", "mask", "segment_ids")
"""What MediaPipe looks for among the inputs' metadata."""
OUTPUT = "score"
LABELS, VOCABULARY = "labels.txt", "vocab.txt"

# Unions and enumerations, by their value in the schema.
FEATURE_PROPERTIES = 1  # ContentProperties
TENSOR_AXIS_LABELS, VOCABULARY_FILE = 2, 5  # AssociatedFileType
BERT_TOKENIZER_OPTIONS = 4  # ProcessUnitOptions

OLDEST = (1980, 1, 1, 0, 0, 0)
"""The zip format's first day, so that equal contents have equal bytes."""


def describe(name: str) -> bytes:
    """Write the metadata of a text classifier with a BERT tokenizer: three inputs, one output with labels."""
    import flatbuffers  # type: ignore[import-untyped]

    tables = _Tables(flatbuffers.Builder(1024))
    inputs = tables.vector([tables.tensor(name) for name in INPUTS])
    labels = tables.vector([tables.file(LABELS, TENSOR_AXIS_LABELS)])
    outputs = tables.vector([tables.tensor(OUTPUT, labels)])
    vocabulary = tables.vector([tables.file(VOCABULARY, VOCABULARY_FILE)])
    # BertTokenizerOptions: 0 vocab_file; ProcessUnit: 0 and 1 options
    tokenizer = tables.table({0: BERT_TOKENIZER_OPTIONS}, {1: tables.table({}, {0: vocabulary})})
    units = tables.vector([tokenizer])
    # SubGraphMetadata: 2 input_tensor_metadata, 3 output_tensor_metadata, 5 input_process_units
    subgraphs = tables.vector([tables.table({}, {2: inputs, 3: outputs, 5: units})])
    # ModelMetadata: 0 name, 3 subgraph_metadata, 7 min_parser_version
    root = {0: tables.string(name), 3: subgraphs, 7: tables.string(MIN_PARSER_VERSION)}
    tables.builder.Finish(tables.table({}, root), IDENTIFIER)
    return bytes(tables.builder.Output())


def append_files(model: bytes, files: Mapping[str, str]) -> bytes:
    """Append files to a model as an uncompressed zip, where MediaPipe looks for what the metadata names."""
    stream = io.BytesIO(model)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, OLDEST), content.encode())
    return stream.getvalue()


class _Tables:
    """Builds tables from field numbers; children before parents, as flatbuffers wants it."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def string(self, text: str) -> int:
        return int(self.builder.CreateString(text))

    def vector(self, tables: Sequence[int]) -> int:
        self.builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table)
        return int(self.builder.EndVector())

    def table(self, codes: Mapping[int, int], offsets: Mapping[int, int]) -> int:
        """Write a table: field number → byte, and field number → what was written before."""
        self.builder.StartObject(max([*codes, *offsets], default=-1) + 1)
        for field, code in codes.items():
            self.builder.PrependUint8Slot(field, code, 0)
        for field, offset in offsets.items():
            self.builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        return int(self.builder.EndObject())

    def file(self, name: str, kind: int) -> int:
        """AssociatedFile: 0 name, 2 type."""
        return self.table({2: kind}, {0: self.string(name)})

    def tensor(self, name: str, files: int | None = None) -> int:
        """TensorMetadata: 0 name, 3 content, 6 associated_files; Content: 0 and 1 content_properties."""
        content = self.table({0: FEATURE_PROPERTIES}, {1: self.table({}, {})})
        named = {0: self.string(name), 3: content}
        return self.table({}, named if files is None else {**named, 6: files})
