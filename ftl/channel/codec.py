"""Messages as bytes: MessagePack, with arrays as dtype, shape and raw bytes. No pickle, nothing that runs.

What is decoded came from another organisation, so everything is checked: the type against the expected one, the dtype
against a short list, the shape against the bytes that came.
"""

import math
import struct
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftl.errors import ProtocolError

T = TypeVar("T")

ARRAY = 1
"""MessagePack extension type of an array."""

DTYPES = tuple(np.dtype(code) for code in ("?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f4", "<f8"))
"""What may cross, in the order of their one-byte code; always little-endian."""

MOST_DIMENSIONS = 4


def encode(message: Any) -> bytes:
    """Bytes of a message: a msgspec struct, or a composition of dict, list, tuple, str, bytes, numbers and arrays.

    Args:
        message: arrays in it are bool, (u)int8 to (u)int64, float32 or float64, with at most 4 dimensions.

    Raises:
        ProtocolError: it holds something that may not cross.
    """
    try:
        return msgspec.msgpack.encode(message, enc_hook=_pack)
    except (TypeError, OverflowError, msgspec.MsgspecError) as exc:
        raise ProtocolError(
            f"A message of type {type(message).__name__} cannot be sent: {exc}.",
            cure="Send structs, lists, texts, numbers, bytes and numeric arrays only.",
        ) from exc


def decode(payload: bytes, expected: type[T], *, sender: str, topic: str) -> T:
    """The message in `payload`; its arrays are copies that the caller owns.

    Args:
        payload: as received.
        expected: the type it must have; a field ``NDArray[np.int64]`` accepts int64 and nothing else.
        sender: who sent it; named in the error.
        topic: under which topic; named in the error.

    Raises:
        ProtocolError: it is not a message of that type.
    """
    try:
        return msgspec.msgpack.decode(payload, type=expected, ext_hook=_unpack, dec_hook=_match)
    except (msgspec.MsgspecError, ValueError, RecursionError, UnicodeDecodeError) as exc:
        raise ProtocolError(
            f"{sender!r} sent under {topic!r} what is not a {expected.__name__} ({len(payload)} bytes): {exc}.",
            cure=f"See that {sender!r} runs the same version; if it does, its message was changed on the way.",
        ) from exc


def _pack(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} may not cross")
    dtype = value.dtype.newbyteorder("<")
    if dtype not in DTYPES or value.ndim > MOST_DIMENSIONS:
        raise TypeError(f"an array of {value.dtype} with {value.ndim} dimensions may not cross")
    head = struct.pack(f"<BB{value.ndim}Q", DTYPES.index(dtype), value.ndim, *value.shape)
    return msgspec.msgpack.Ext(ARRAY, head + value.astype(dtype, copy=False).tobytes())


def _unpack(code: int, data: memoryview) -> NDArray[Any]:
    if code != ARRAY or len(data) < 2:
        raise ValueError(f"unknown extension {code} of {len(data)} bytes")
    kind, dimensions = data[0], data[1]
    if kind >= len(DTYPES) or dimensions > MOST_DIMENSIONS or len(data) < 2 + 8 * dimensions:
        raise ValueError("an array with an impossible head")
    shape = struct.unpack_from(f"<{dimensions}Q", data, 2)
    body, dtype = data[2 + 8 * dimensions :], DTYPES[kind]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"an array of shape {shape} and type {dtype} in {len(body)} bytes")
    if kind == 0 and body and max(body) > 1:
        raise ValueError("a bool array with bytes other than 0 and 1")
    return np.frombuffer(body, dtype=dtype).reshape(shape).copy()


def _match(expected: Any, value: Any) -> Any:
    """Msgspec calls this for types it does not know: here, arrays."""
    if (get_origin(expected) or expected) is not np.ndarray or not isinstance(value, np.ndarray):
        raise ValueError(f"{type(value).__name__} where {expected} was expected")
    wanted = get_args(expected)
    if wanted and (scalar := get_args(wanted[1])) and scalar[0] is not Any and value.dtype != np.dtype(scalar[0]):
        raise ValueError(f"an array of {value.dtype} where {np.dtype(scalar[0])} was expected")
    return value
