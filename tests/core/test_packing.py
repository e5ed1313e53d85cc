"""Numbers of fewer than 8 bits come back as they were stored, wherever bytes end."""

import numpy as np
import pytest

from stages.core.packing import pack, unpack


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 5, 8, 31, 200])
def test_what_is_stored_comes_back(bits, count):
    random = np.random.default_rng(count)
    for signed, lowest, dtype in ((False, 0, np.uint8), (True, -(2 ** (bits - 1)), np.int8)):
        values = random.integers(lowest, lowest + 2**bits, count).astype(dtype)
        stored = pack(values, bits)
        assert (stored.dtype, stored.size) == (np.uint8, -(-count * bits // 8))
        found = unpack(stored, count, bits, signed=signed)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values)


def test_the_first_lies_in_the_lowest_bits_and_some_cross_a_byte():
    np.testing.assert_array_equal(pack(np.array([1, 2, -1], np.int8), 4), [0x21, 0x0F])
    np.testing.assert_array_equal(pack(np.array([63, 1, 0, 33], np.uint8), 6), [0b01111111, 0, 0b10000100])


def test_bytes_behind_the_last_number_are_not_read():
    np.testing.assert_array_equal(unpack(np.full(9, 255, np.uint8), 3, 4, signed=True), [-1, -1, -1])
