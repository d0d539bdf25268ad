"""Uploads: the files of jobs on their way in, counted and bounded while they come, not when they are there.

What one user may take is bounded by number and by bytes, what all may take by the disk: some of it stays free, for
the checkpoints of the jobs that run. An upload that is refused, broken off or cut off leaves nothing: it is received
into a file without a name, and unpacked only when it is whole.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from starlette.concurrency import run_in_threadpool

from ugro_py import paths
from ugro_py.api.statuses import NoRoomError
from ugro_py.errors import NotFoundError, RightsError, StateError
from ugro_py.queue import spool_tar

KEPT_S = 3600.0
"""How long an upload waits for its job."""
AT_ONCE = 2
"""Uploads that are received from one user at a time."""
ALL_AT_ONCE = 8
"""Uploads that are received at a time, from all users: each may have to unpack many files."""
MOST = 4
"""Uploads of one user, with those that wait for their job."""
USER_BYTES = 4 << 30
"""Bytes of one user's uploads, with those that wait for their job."""
TURN_S = 20.0
"""How long an upload waits for its turn, where its user or all users send as many as they may: a sweep starts many."""
WAIT_MOST = 64
"""Uploads of one user that wait for their turn."""
MOST_FILES = 200_000
RESERVE_BYTES = 1 << 30
RESERVE_PART, RESERVE_MOST_BYTES = 0.05, 20 << 30
"""This part of the disk stays free (at least `RESERVE_BYTES`, at most `RESERVE_MOST_BYTES`)."""
_PIECE = 1 << 20
"""Bytes that are written and counted at a time."""
_WHAT = "upload the files of a job"


@dataclass(frozen=True)
class Uploaded:
    """Files that were taken in and wait for their job; `size` in bytes, as they came."""

    user: str
    folder: Path
    parts: frozenset[str]
    size: int
    at: float


class Incoming:
    """An upload that is being received. Use `Uploads.receive`."""

    def __init__(self, uploads: Uploads, user: str, file: IO[bytes]) -> None:
        self.user = user
        self.size = 0
        self._uploads = uploads
        self._file = file
        self._piece = bytearray()

    async def add(self, block: bytes) -> None:
        """Take in what came.

        Raises:
            RightsError: it is more than the user may have here.
            StateError: there is no room.
        """
        self._piece += block
        if len(self._piece) >= _PIECE:
            await run_in_threadpool(self._write)

    async def unpacked(self) -> tuple[str, frozenset[str]]:
        """Unpack what came: returns the name that its submission gives, and the parts there are.

        Raises:
            UsageError: it is not what `spool_tar.pack` writes.
            RightsError, StateError: as `add`.
        """
        return await run_in_threadpool(self._unpack)

    def _write(self) -> None:
        piece, self._piece = self._piece, bytearray()
        self._uploads.count(self, len(piece))
        try:
            self._file.write(piece)
        except OSError as error:
            raise _no_room(error.strerror or str(error)) from error

    def _unpack(self) -> tuple[str, frozenset[str]]:
        self._write()
        self._file.seek(0)
        # What is in an archive is never larger than the archive; its files were counted when they came.
        folder, parts = spool_tar.unpack(self._file, max_bytes=self.size, max_files=MOST_FILES, check=check_room)
        return self._uploads.keep(Uploaded(self.user, folder, frozenset(parts), self.size, time.monotonic()))


class Uploads:
    """The uploads that are on their way, and those that wait for their job. All methods may be called from any thread.

    Attributes:
        lock: held while any of them changes.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._incoming: set[Incoming] = set()
        self._waiting: dict[str, Uploaded] = {}
        self._in_turn: dict[str, int] = {}

    async def turn(self, user: str) -> None:
        """Wait until the user may send one more, at most `TURN_S`; `receive` says then what is in the way."""
        if self._in_turn.get(user, 0) >= WAIT_MOST:
            return
        self._in_turn[user] = self._in_turn.get(user, 0) + 1
        until = time.monotonic() + TURN_S
        try:
            while self._crowded(user) and time.monotonic() < until:
                await asyncio.sleep(0.05)
        finally:
            self._in_turn[user] -= 1
            if not self._in_turn[user]:
                del self._in_turn[user]

    def _crowded(self, user: str) -> bool:
        with self.lock:
            mine = sum(one.user == user for one in self._incoming)
            waiting = sum(one.user == user for one in self._waiting.values())
            return mine >= AT_ONCE or mine + waiting >= MOST or len(self._incoming) >= ALL_AT_ONCE

    @contextmanager
    def receive(self, user: str, announced: int) -> Iterator[Incoming]:
        """Begin to receive an upload, if the user may send one now; whatever comes of it, its file is gone afterwards.

        Args:
            user: who sends it.
            announced: how many bytes are to come; 0 where nobody said.

        Raises:
            RightsError: the user has too many or too large uploads already.
            StateError: there is no room, or too many are sent already.
        """
        try:
            paths.data_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
            check_room(2 * announced)  # as it comes, and unpacked
            file = tempfile.TemporaryFile(dir=paths.data_dir())  # noqa: SIM115  closed below, with all that came
        except OSError as error:
            raise _no_room(error.strerror or str(error)) from error
        with file:
            incoming = Incoming(self, user, file)
            with self.lock:
                self._admit(user, announced)
                self._incoming.add(incoming)
            try:
                yield incoming
            finally:
                with self.lock:
                    self._incoming.discard(incoming)

    def _admit(self, user: str, announced: int) -> None:
        self._drop_old()
        mine = [one for one in self._incoming if one.user == user]
        if len(mine) >= AT_ONCE:
            raise RightsError(_WHAT, f"{user} sends {len(mine)} already", "wait for one to end")
        waiting = sum(one.user == user for one in self._waiting.values())
        if len(mine) + waiting >= MOST:
            raise RightsError(_WHAT, f"{waiting} uploads of {user} wait already", "submit their jobs")
        self._check_bytes(user, announced)
        if len(self._incoming) >= ALL_AT_ONCE:
            raise StateError(_WHAT, f"{len(self._incoming)} are being sent already", "try again soon")

    def _check_bytes(self, user: str, more: int) -> None:
        have = sum(one.size for one in self._incoming if one.user == user)
        have += sum(one.size for one in self._waiting.values() if one.user == user)
        if have + more > USER_BYTES:
            raise RightsError(
                _WHAT, f"{user} may have {USER_BYTES / 2**30:.3g} GB of uploads that wait for their jobs",
                "submit their jobs, or put large data on the nodes",
            )  # fmt: skip

    def count(self, incoming: Incoming, more: int) -> None:
        """Count what came of an upload before it is written; see `Incoming.add`."""
        with self.lock:
            self._check_bytes(incoming.user, more)
            check_room(2 * more + sum(one.size for one in self._incoming))  # each is still to be unpacked
            incoming.size += more

    def keep(self, uploaded: Uploaded) -> tuple[str, frozenset[str]]:
        """Keep an upload until its job is submitted: returns its name, and its parts."""
        name = secrets.token_urlsafe(18)
        with self.lock:
            self._waiting[name] = uploaded
        return name, uploaded.parts

    def take(self, user: str, name: str) -> Uploaded:
        """Return an upload for its job; its folder is the caller's from now on.

        Raises:
            NotFoundError: the user has none of this name.
        """
        with self.lock:
            self._drop_old()
            found = self._waiting.get(name)
            if found is None or found.user != user:
                raise NotFoundError("upload", "there is none of that name, or it waited too long", "upload again")
            return self._waiting.pop(name)

    def _drop_old(self) -> None:
        for name, upload in list(self._waiting.items()):
            if time.monotonic() - upload.at > KEPT_S:
                del self._waiting[name]
                if upload.folder.exists():
                    shutil.rmtree(upload.folder)


def check_room(more: int = 0) -> None:
    """Refuse to write so many bytes more where the disk of the central store would be too full with them.

    Raises:
        NoRoomError: it would be.
    """
    free, total = room()
    keep = max(RESERVE_BYTES, min(int(total * RESERVE_PART), RESERVE_MOST_BYTES))
    if free - more < keep:
        raise _no_room(f"{free / 2**30:.1f} GB are free, {keep / 2**30:.1f} GB of them stay so")


def room() -> tuple[int, int]:
    """Return how many bytes are free on the disk of the central store, and how many it has."""
    disk = os.statvfs(paths.data_dir())
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _no_room(why: str) -> NoRoomError:
    return NoRoomError(_WHAT, f"no room in the central store: {why}", "ask who runs the agent to make room")
