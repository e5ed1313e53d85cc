"""The header of a GGUF file that lies about itself is one line, at once, whatever it announces."""

import struct
import tracemalloc

import pytest

from stages.core.errors import InputError
from stages.models import gguf, gguf_header
from tests.toys.classifiers import LIMITS

HUGE = 1 << 60


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def setting(key="general.name", kind=8, value=b"\1\0\0\0\0\0\0\0x"):
    return text(key) + struct.pack("<I", kind) + value


def array(kind, count, values=b""):
    return setting("general.tags", 9, struct.pack("<IQ", kind, count) + values)


def tensor(name="a", shape=(32,), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def file(settings=(), tensors=(), body=b"", start=b"GGUF\3\0\0\0", counts=None):
    head = start + struct.pack("<QQ", *(counts or (len(tensors), len(settings)))) + b"".join((*settings, *tensors))
    return head + bytes(-len(head) % 32) + body


BODY = bytes(128)
SOUND = file([setting()], [tensor()], BODY)
HOSTILE = {
    "another format": (b"PK\3\4" + SOUND, "does not begin as one; expected an intact GGUF file", {}),
    "nothing": (b"", "announces 4 bytes behind byte 0", {}),
    "the first version": (file(start=b"GGUF\1\0\0\0"), "is of version 1 ", {}),
    "the other byte order": (file(start=b"GGUF\0\0\0\3"), "is of version 50331648 .or big-endian", {}),
    "an end within the header": (SOUND[:40], "announces 12 bytes behind byte 32, and its header may have 40", {}),
    "more settings than there are bytes": (
        file(counts=(0, HUGE)),
        f"announces {HUGE} settings; expected at most 1000",
        {},
    ),
    "a few settings that are not there": (file(counts=(0, 9)), "announces 4 bytes behind byte", {}),
    "more tensors than there are bytes": (
        file(counts=(HUGE, 0)),
        f"announces {HUGE} tensors; expected at most 20000",
        {},
    ),
    "a text longer than the file": (file([struct.pack("<Q", HUGE)]), f"announces {HUGE} bytes behind byte", {}),
    "an array longer than the file": (file([array(8, HUGE)]), f"announces {HUGE} values in an array", {}),
    "a shorter one that is not there": (file([array(0, 1_000_000)]), "announces 1000000 bytes behind byte", {}),
    "texts that are not there": (file([array(8, 1_000_000)]), "announces 8 bytes behind byte", {}),
    "arrays in an array": (file([array(9, 2, struct.pack("<IQ", 9, 1) * 2)]), "has a setting of type 9 before", {}),
    "a type that does not exist": (file([setting(kind=13)]), "has a setting of type 13 before", {}),
    "text in another encoding": (file([setting(value=text(b"\xff\xfe"))]), "has text that is no UTF-8 before", {}),
    "a setting twice": (file([setting(), setting()]), "has the setting 'general.name' twice", {}),
    "an odd alignment": (file([setting("general.alignment", 4, struct.pack("<I", 0))]), "has general.alignment: 0", {}),
    "an alignment in words": (file([setting("general.alignment")]), "has general.alignment: 'x'", {}),
    "a tensor twice": (file([], [tensor(), tensor()], BODY), "has the tensor 'a' twice", {}),
    "too many dimensions": (file([], [tensor(shape=(1,) * 5)], BODY), "announces 5 dimensions of a tensor", {}),
    "no dimension": (file([], [tensor(shape=())], BODY), r"gives tensor 'a' of F32 the shape \(\)", {}),
    "an empty axis": (file([], [tensor(shape=(0, HUGE))], BODY), r"of F32 the shape \(\d+, 0\)", {}),
    "half a block": (file([], [tensor(shape=(48, 2), kind=3)], BODY), r"of Q4_1 the shape \(2, 48\)", {}),
    "more weights than allowed": (file([], [tensor(shape=(HUGE, HUGE))]), "weights; expected at most 2000000000", {}),
    "a type without a name": (file([], [tensor(kind=999)], BODY), "stores tensor 'a' as type 999", {}),
    "a tensor elsewhere": (file([], [tensor(offset=64)], BODY), "where 64 is the next free one", {}),
    "a tensor far behind the end": (file([], [tensor(offset=HUGE)], BODY), "is the next free one", {}),
    "two over the same bytes": (file([], [tensor(), tensor("b")], BODY), "tensor 'b' at byte .*, where", {}),
    "a larger shape than bytes": (file([], [tensor(shape=(64,))], BODY), "and its tensors end at byte", {}),
    "a second file behind the last tensor": (SOUND + b"PK" + bytes(62), "has 288 bytes, and its tensors end", {}),
    "a larger header than allowed": (SOUND, "and its header may have 48", {"json_bytes": 48}),
    "a larger file than allowed": (SOUND, "has 224 bytes; expected at most 200", {"total_bytes": 200}),
    "a larger checkpoint than allowed": (
        file([], [tensor(shape=(1024,), kind=2)], bytes(576)),
        "announces 1024 weights; expected at most 250",
        {"total_bytes": 1000},
    ),
    "more tensors than allowed": (
        file([], [tensor()], BODY),
        "announces 1 tensors; expected at most 0",
        {"tensors": 0},
    ),
    "a longer list than allowed": (file([array(0, 9, bytes(9))]), "announces 9 values in an array", {"integer": 8}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_and_takes_no_memory(tmp_path, name):
    raw, refusal, lowered = HOSTILE[name]
    (tmp_path / "model.gguf").write_bytes(raw)
    (tmp_path / "unpacked").mkdir()
    tracemalloc.start()
    with pytest.raises(InputError, match=refusal) as caught:
        gguf.unpack(tmp_path / "model.gguf", tmp_path / "unpacked", LIMITS.model_copy(update=lowered))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # the `gguf` package itself, where it is imported first
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not any((tmp_path / "unpacked").iterdir())


def test_the_file_that_the_hostile_ones_are_made_of_is_sound(tmp_path):
    (tmp_path / "model.gguf").write_bytes(SOUND)
    with (tmp_path / "model.gguf").open("rb") as stream:
        header = gguf_header.read(stream, tmp_path / "model.gguf", LIMITS)
    assert header.settings == {"general.name": "x"}
    assert header.tensors == {"a": gguf_header.Stored("F32", (32,), len(SOUND) - len(BODY), 128)}
