import struct

import numpy as np
import pytest

from stages.coreml import dtypes
from stages.coreml.blob import WeightFile
from stages.coreml.errors import Malformed
from tests.toys.mil import BLOB_CODES, pack

RANGES = {
    dtypes.UINT1: (0, 2),
    dtypes.UINT2: (0, 4),
    dtypes.UINT3: (0, 8),
    dtypes.UINT4: (0, 16),
    dtypes.UINT6: (0, 64),
    dtypes.INT4: (-8, 8),
    dtypes.INT8: (-128, 128),
    dtypes.UINT8: (0, 256),
    dtypes.FP16: (-4, 4),
    dtypes.INT32: (-(2**31), 2**31),
}


def record(dtype, size, start=128, padding=0, sentinel=0xDEADBEEF):
    return struct.pack("<IIQQQ32x", sentinel, BLOB_CODES[dtype], size, start, padding)


def write(path, head, data, version=2):
    path.write_bytes(struct.pack("<II56x", 1, version) + head + data)
    return path


@pytest.mark.parametrize("dtype", RANGES, ids=lambda dtype: dtype.name)
def test_every_element_type_reads_back_as_written(tmp_path, dtype):
    values = np.random.default_rng(0).integers(*RANGES[dtype], size=(3, 7)).astype(dtype.numpy)
    data = pack(values, dtype)
    padding = len(data) * 8 - values.size * dtype.bits
    file = WeightFile(write(tmp_path / "w.bin", record(dtype, len(data), padding=padding), data))
    found = file.read(64, dtype, (3, 7))
    assert found.dtype == dtype.numpy
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("offset", [0, 63, 65, 128, 1 << 40])
def test_an_offset_outside_the_file_is_refused(tmp_path, offset):
    file = WeightFile(write(tmp_path / "w.bin", record(dtypes.INT8, 4), b"abcd"))
    with pytest.raises(Malformed, match="offset outside the file|no blob record"):
        file.read(offset, dtypes.INT8, (4,))


def test_data_that_leave_the_file_are_refused(tmp_path):
    file = WeightFile(write(tmp_path / "w.bin", record(dtypes.INT8, 1 << 60), b"abcd"))
    with pytest.raises(Malformed, match="leave the file"):
        file.read(64, dtypes.INT8, (1 << 60,))


def test_a_length_that_is_not_the_shapes_is_refused(tmp_path):
    file = WeightFile(write(tmp_path / "w.bin", record(dtypes.INT8, 4), b"abcd"))
    with pytest.raises(Malformed, match="4 bytes; expected 5"):
        file.read(64, dtypes.INT8, (5,))


def test_another_element_type_is_refused(tmp_path):
    file = WeightFile(write(tmp_path / "w.bin", record(dtypes.INT8, 4), b"abcd"))
    with pytest.raises(Malformed, match="expected 'uint8'"):
        file.read(64, dtypes.UINT8, (4,))


def test_a_wrong_sentinel_is_refused(tmp_path):
    file = WeightFile(write(tmp_path / "w.bin", record(dtypes.INT8, 4, sentinel=7), b"abcd"))
    with pytest.raises(Malformed, match="no blob record"):
        file.read(64, dtypes.INT8, (4,))


def test_wrong_padding_of_packed_bits_is_refused(tmp_path):
    file = WeightFile(write(tmp_path / "w.bin", record(dtypes.UINT3, 2, padding=0), b"ab"))
    with pytest.raises(Malformed, match="0 bits of padding; expected 1"):
        file.read(64, dtypes.UINT3, (5,))


def test_another_storage_version_is_refused(tmp_path):
    with pytest.raises(Malformed, match="storage version 3"):
        WeightFile(write(tmp_path / "w.bin", b"", b"", version=3))


@pytest.mark.parametrize("size", [0, 63])
def test_a_file_shorter_than_its_header_is_refused(tmp_path, size):
    (tmp_path / "w.bin").write_bytes(bytes(size))
    with pytest.raises(Malformed, match="expected a header"):
        WeightFile(tmp_path / "w.bin")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Malformed, match="cannot read weight file"):
        WeightFile(tmp_path / "w.bin")
