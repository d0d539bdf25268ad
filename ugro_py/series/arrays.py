"""Between Arrow columns and numpy or lists, without pandas: `pyarrow.array` and `to_numpy` import it, for 0.3 s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def numbers(column: pa.ChunkedArray, missing: float | None = None) -> np.ndarray[Any, Any]:
    """Return the numbers of a column; where it is null stands `missing`, or anything if that is None."""
    import numpy as np

    kind = np.dtype(column.type.to_pandas_dtype())
    if not column.num_chunks or not len(column):
        return np.empty(0, kind)
    parts = [np.frombuffer(part.buffers()[1], kind, len(part), part.offset * kind.itemsize) for part in _parts(column)]
    whole: np.ndarray[Any, Any] = np.concatenate(parts)
    if missing is not None and (known := are_known(column)) is not None:
        whole[~known] = missing
    return whole


def are_known(column: pa.ChunkedArray) -> np.ndarray[Any, Any] | None:
    """Return which values of a column are not null; None where all are known."""
    import numpy as np

    if not column.null_count:
        return None
    found = np.ones(len(column), bool)
    at = 0
    for part in _parts(column):
        if part.null_count:
            bits = np.frombuffer(part.buffers()[0], np.uint8)
            found[at : at + len(part)] = np.unpackbits(bits, bitorder="little")[part.offset : part.offset + len(part)]
        at += len(part)
    return found


def mean_of(values: np.ndarray[Any, Any]) -> float | None:
    """Return the mean of finite numbers, also where their sum is more than a number can be; None without any."""
    import numpy as np

    if not len(values):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        mean = values.mean()
        if not np.isfinite(mean):
            most = np.finfo(np.float64).max
            mean = np.clip((values / len(values)).sum(), -most, most)
    return float(mean)


def column_of(values: np.ndarray[Any, Any], known: np.ndarray[Any, Any] | None = None) -> pa.Array:
    """Return numbers as a column, without a copy; what is not `known` is null."""
    import pyarrow as pa

    bits = None if known is None else _bits(known)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [bits, pa.py_buffer(values)])


def flags(values: np.ndarray[Any, Any]) -> pa.Array:
    """Return truth values as a column."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def nullable(values: Sequence[float | None], kind: str = "float64") -> pa.Array:
    """Return numbers as a column of the numpy type `kind`; None is null."""
    import numpy as np

    filled = np.array([0 if value is None else value for value in values], kind)
    return column_of(filled, np.array([value is not None for value in values], bool))


def texts(values: Sequence[str | None]) -> pa.Array:
    """Return texts as a column; None is null."""
    import numpy as np
    import pyarrow as pa

    raw = [(value or "").encode("utf-8", "replace") for value in values]
    offsets = np.zeros(len(raw) + 1, np.int32)
    np.cumsum([len(value) for value in raw], out=offsets[1:])
    buffers = [_bits([value is not None for value in values]), pa.py_buffer(offsets), pa.py_buffer(b"".join(raw))]
    return pa.Array.from_buffers(pa.string(), len(raw), buffers)


def repeated(value: str, times: int) -> pa.Array:
    """Return a column that holds a short text `times` times."""
    import numpy as np
    import pyarrow as pa

    raw = value.encode("utf-8", "replace")
    offsets = np.arange(times + 1, dtype=np.int32) * len(raw)
    return pa.Array.from_buffers(pa.string(), times, [None, pa.py_buffer(offsets), pa.py_buffer(raw * times)])


def _bits(known: Sequence[bool] | np.ndarray[Any, Any]) -> pa.Buffer:
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(np.array(known, bool), bitorder="little"))


def _parts(column: pa.ChunkedArray) -> list[pa.Array]:
    return [part for part in column.chunks if len(part)]
