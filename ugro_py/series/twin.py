"""A columnar twin of a file of JSON lines that grows: Arrow record batches, appended while the lines arrive.

The twin is derived: it says how far into its source it is, and whoever finds it behind brings it up to date or, without
the right to write, reads the rest in memory. A chunk of it is a header and an Arrow IPC stream; one that is torn or
damaged ends the twin there, and what it held is read from the source again.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import xxhash

from ugro_py import metrics
from ugro_py.errors import StateError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

FLUSH_BYTES = metrics.COLUMNS_FROM
"""So much of the source may be without columns: it is read as JSON each time, which takes some 10 ms."""

_BLOCK = 4 << 20
# So much of both ends of a chunk's source is compared.
_EDGE = 4096
# Fewer chunks are not worth starting threads for.
_FEW = 8
_MAGIC = b"UGROCOL2"
# magic, bytes of the stream and their sum; of the source: inode, first byte, byte behind the last, sum of both ends;
# broken lines, rows; sum of what stands before it in the header
_HEADER = struct.Struct("<8sQQQQQQIIQ")
_SUM = struct.Struct("<Q")
_sum = xxhash.xxh3_64_intdigest


class Parser(Protocol):
    """Turns whole lines into columns. Called by several threads at once."""

    def learn(self, names: Iterable[str]) -> None:
        """Take note of the columns that earlier lines have."""
        ...

    def __call__(self, data: bytearray) -> tuple[pa.RecordBatch, int]:
        """Return the columns and the number of lines that are broken."""
        ...


@dataclass(frozen=True)
class Chunk:
    """The columns of a part of the source, as an Arrow IPC stream or, of what is in no twin, as they are."""

    start: int
    end: int
    inode: int
    source_sum: int
    broken: int
    rows: int
    stream: memoryview | None = None
    batch: pa.RecordBatch | None = None

    @property
    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return self.batch.schema if self.batch is not None else pa.ipc.open_stream(self.stream).schema

    def columns(self, names: Sequence[str] | None = None) -> pa.RecordBatch:
        """Return its columns, or those of `names` that it has; the others are not even unpacked."""
        import pyarrow as pa

        if self.batch is not None:
            return self.batch if names is None else self.batch.select([n for n in names if n in self.schema.names])
        options = pa.ipc.IpcReadOptions(use_threads=False)  # a chunk is too small to share out
        if names is not None:
            schema = self.schema
            fields = [index for name in names if (index := schema.get_field_index(name)) >= 0]
            if len(fields) < len(schema):
                options.included_fields = fields or [0]  # to Arrow no field is all of them
        batch = pa.ipc.open_stream(self.stream, options=options).read_next_batch()
        return batch if names is None or fields else batch.select([])


class Twin:
    """The twin at `file` of the JSON lines at `source`; `chunks` is all that is known after `refresh`."""

    def __init__(self, source: Path, file: Path, parser: Parser) -> None:
        self._source, self._file, self._parser = source, file, parser
        self.chunks: list[Chunk] = []

    def refresh(self) -> None:
        """Bring `chunks` up to date with the source, and the twin too where it is behind and this account may write.

        Raises:
            StateError: the source cannot be read.
        """
        try:
            with self._source.open("rb") as stream:
                self._refresh(stream.fileno())
        except FileNotFoundError:
            self.chunks = []
        except OSError as error:
            raise StateError(f"read {self._source}", error.strerror or str(error), "check the disk") from error

    def _refresh(self, source: int) -> None:
        status = os.fstat(source)
        self.chunks = _valid(_load(self._file), source, status)
        # Files of anybody else in a user's folder would be in the way of the user.
        mine = status.st_uid == os.geteuid()
        if status.st_size - _end(self.chunks) >= FLUSH_BYTES and mine:
            try:
                self._extend(source, status)
            except OSError:
                pass  # a full disk, a file system that is read-only: what is missing is read in memory
        self.chunks.extend(self._parsed(source, _end(self.chunks), status.st_size))

    def _extend(self, source: int, status: os.stat_result) -> None:
        with _locked(self._file) as twin:
            known = _valid(_load(self._file), source, status)  # another process may have been faster
            self.chunks = known
            at = sum(_HEADER.size + len(chunk.stream or b"") for chunk in known)
            os.ftruncate(twin, at)
            for chunk in self._parsed(source, _end(known), status.st_size):
                packed = _packed(chunk)
                view = memoryview(packed)
                while view:
                    view = view[os.pwrite(twin, view, at + len(packed) - len(view)) :]
                at += len(packed)
                self.chunks.append(chunk)

    def _parsed(self, source: int, start: int, end: int) -> Iterator[Chunk]:
        """Yield the columns of whole lines, in order; blocks are parsed side by side."""
        inode = os.fstat(source).st_ino
        if end > start:
            self._parser.learn(name for chunk in self.chunks for name in chunk.schema.names)
        if end - start <= _BLOCK:
            for at, data in _blocks(source, start, end):
                yield self._chunk(inode, at, data)
            return
        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Chunk]] = deque()
            for at, data in _blocks(source, start, end):
                waiting.append(pool.submit(self._chunk, inode, at, data))
                if len(waiting) > workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _chunk(self, inode: int, at: int, data: bytearray) -> Chunk:
        mark = _sum(data[:_EDGE] + data[-_EDGE:])
        batch, broken = self._parser(data)
        return Chunk(at, at + len(data), inode, mark, broken, batch.num_rows, batch=batch)


def _end(chunks: Sequence[Chunk]) -> int:
    return chunks[-1].end if chunks else 0


def _blocks(source: int, start: int, end: int) -> Iterator[tuple[int, bytearray]]:
    """Yield whole lines, some MB at a time, each with its offset; a line without an end is left out."""
    while start < end:
        size = _BLOCK
        while True:
            data = bytearray(min(size, end - start))
            del data[os.preadv(source, [data], start) :]
            cut = data.rfind(b"\n") + 1
            if cut or len(data) < size:
                break
            size *= 2  # a line that is longer
        if not cut:
            return
        del data[cut:]
        yield start, data
        start += cut


def _packed(chunk: Chunk) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    batch = chunk.batch
    assert batch is not None
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)  # as in `Chunk.columns`
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    stream: Any = sink.getvalue()
    values = (
        _MAGIC, len(stream), _sum(stream), chunk.inode, chunk.start, chunk.end, chunk.source_sum, chunk.broken,
        chunk.rows,
    )  # fmt: skip
    head = _HEADER.pack(*values, 0)[: -_SUM.size]
    return b"".join((head, _SUM.pack(_sum(head)), stream))


def _load(file: Path) -> list[Chunk]:
    """Return the chunks of a twin up to the first that is torn or damaged."""
    try:
        data = file.read_bytes()
    except OSError:
        return []
    found: list[Chunk] = []
    at, view = 0, memoryview(data)
    while len(data) - at > _HEADER.size:
        magic, size, stream_sum, inode, start, end, source_sum, broken, rows, head_sum = _HEADER.unpack_from(data, at)
        if magic != _MAGIC or head_sum != _sum(view[at : at + _HEADER.size - _SUM.size]) or start != _end(found):
            break
        at += _HEADER.size
        stream = view[at : at + size]
        if len(stream) < size or stream_sum != _sum(stream):
            break
        found.append(Chunk(start, end, inode, source_sum, broken, rows, stream=stream))
        at += size
    return found


def side_by_side(call: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
    """Return what `call`, which lets other threads run, makes of each item: on several cores where there are many."""
    workers = min(4, os.cpu_count() or 1)
    if len(items) < _FEW or workers == 1:
        return [call(item) for item in items]
    share = -(-len(items) // workers)  # each thread has its own, for to hand over single items takes as long as they do
    with ThreadPoolExecutor(workers) as pool:
        shares = pool.map(lambda at: list(map(call, items[at : at + share])), range(0, len(items), share))
        return [found for part in shares for found in part]


def _valid(chunks: list[Chunk], source: int, status: os.stat_result) -> list[Chunk]:
    """Return the chunks if they are of this source, else none.

    The files of a job only grow, and who writes one anew removes its twin (`metrics.rebuild`); the inode and the ends
    tell of a copy, of a file that was cut, and of one that a person edited.
    """
    if not chunks or chunks[-1].end > status.st_size:
        return []
    for chunk in (chunks[0], chunks[-1]):
        size = min(_EDGE, chunk.end - chunk.start)
        ends = os.pread(source, size, chunk.start) + os.pread(source, size, chunk.end - size)
        if chunk.inode != status.st_ino or _sum(ends) != chunk.source_sum:
            return []
    return chunks


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    """Open the twin for writing, alone."""
    file.parent.mkdir(exist_ok=True)
    while True:
        twin = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(twin, fcntl.LOCK_EX)
            try:
                same = file.stat().st_ino == os.fstat(twin).st_ino
            except FileNotFoundError:
                same = False  # removed while this waited for the lock
            if same:
                yield twin
                return
        finally:
            os.close(twin)
