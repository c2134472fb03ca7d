"""Messages as bytes: what goes in comes out, what does not belong is refused with the sender's name."""

import contextlib
import pickle
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ftl.channel import decode, encode
from ftl.errors import ProtocolError


class Sums(msgspec.Struct, frozen=True):
    node: int
    counts: NDArray[np.int64]
    parts: dict[str, NDArray[np.float64]] = {}
    cipher: bytes = b""


def read(payload: bytes, kind: type[Any] = Sums) -> Any:
    return decode(payload, kind, sender="partner", topic="tree/1/sums")


DTYPES = st.sampled_from(["?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u8", "<f4", "<f8", ">f8", ">i4"])


@given(DTYPES.flatmap(lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))))
def test_every_numeric_array_comes_back_with_its_values_shape_and_dtype(array: NDArray[Any]) -> None:
    back = read(encode({"a": array}), dict)["a"]
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_a_struct_comes_back_equal_field_by_field() -> None:
    sent = Sums(3, np.arange(6).reshape(2, 3), {"x": np.array([np.nan, -0.0])}, b"\x00\xff")
    back = read(encode(sent))
    np.testing.assert_array_equal(back.counts, sent.counts)
    np.testing.assert_array_equal(back.parts["x"], sent.parts["x"])
    assert (back.node, back.cipher) == (3, b"\x00\xff")


def test_an_array_that_is_not_contiguous_comes_back_equal() -> None:
    array = np.arange(24).reshape(4, 6)[::2, ::-3]
    np.testing.assert_array_equal(read(encode([array]), list)[0], array)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"node": 1, "counts": np.zeros(2)}, "an array of float64 where int64 was expected"),
        ({"node": 1, "counts": [1, 2]}, "list where .* was expected"),
        ({"node": "1", "counts": np.zeros(2, dtype=np.int64)}, "Expected `int`, got `str`"),
        ({"node": 1}, "missing required field `counts`"),
        ([1], "Expected `object`, got `array`"),
    ],
)
def test_a_message_of_another_type_is_refused_with_the_senders_name(content: Any, why: str) -> None:
    with pytest.raises(ProtocolError, match=f"'partner' sent under 'tree/1/sums' what is not a Sums .*{why}"):
        read(encode(content))


@given(st.binary(max_size=200))
def test_noise_is_refused_or_read_but_never_breaks_otherwise(noise: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(read(noise, dict), dict)


@given(st.integers(0, 60))
def test_a_truncated_message_is_refused(length: int) -> None:
    whole = encode(Sums(1, np.arange(6)))
    with pytest.raises(ProtocolError, match="'partner' sent under"):
        read(whole[: min(length, len(whole) - 1)])


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"\x04\x01" + (2**61).to_bytes(8, "little"), "an array of shape .* in 0 bytes"),
        (b"\x04\x02" + (2**40).to_bytes(8, "little") * 2, "an array of shape"),
        (b"\x7f\x00", "impossible head"),
        (b"\x04\x09", "impossible head"),
        (b"\x00\x01" + (1).to_bytes(8, "little") + b"\x02", "bool array with bytes other than 0 and 1"),
    ],
)
def test_an_array_whose_head_lies_is_refused_before_memory_is_taken(head: bytes, why: str) -> None:
    payload = msgspec.msgpack.encode({"a": msgspec.msgpack.Ext(1, head)})
    with pytest.raises(ProtocolError, match=why):
        read(payload, dict)


def test_a_pickle_is_nothing_that_can_be_read() -> None:
    with pytest.raises(ProtocolError, match="not a dict"):
        read(pickle.dumps({"a": 1}), dict)
    with pytest.raises(ProtocolError, match="unknown extension 2"):
        read(msgspec.msgpack.encode({"a": msgspec.msgpack.Ext(2, pickle.dumps(1))}), dict)


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["id"]), np.zeros((1,) * 5), object(), 1 + 2j])
def test_what_is_no_number_text_or_array_of_them_cannot_be_sent(value: Any) -> None:
    with pytest.raises(ProtocolError, match="cannot be sent"):
        encode({"a": value})
