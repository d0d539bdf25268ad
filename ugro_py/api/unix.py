"""Unix sockets by paths of any length, made so that there is never a moment without one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ugro_py.errors import StateError

_LONGEST = 100  # the kernel takes 107 bytes


@contextmanager
def short(path: Path) -> Iterator[str]:
    """Give a name of `path` that fits into a socket address, however deep the folder is."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path, timeout_s: float) -> socket.socket:
    """Return a connection to the socket `path`.

    Raises:
        OSError: there is none, or nobody listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        with short(path) as name:
            connection.connect(name)
    except BaseException:
        connection.close()
        raise
    return connection


def bind(path: Path, mode: int) -> socket.socket:
    """Return a socket that listens at `path`, in the place of one that a process which is gone left there.

    Raises:
        StateError: another process listens there, or the folder cannot be used.
    """
    try:
        with suppress(OSError):
            connect(path, 2.0).close()
            raise StateError(f"listen at {path}", "another agent does already", "run `ugro agent status`")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Nobody may connect before it has its mode; then it takes the place of the old one at once.
        old_mask = os.umask(0o177)
        try:
            with short(new) as name:
                listener.bind(name)
        finally:
            os.umask(old_mask)
        listener.listen(128)
        new.chmod(mode)
        new.rename(path)
    except OSError as error:
        raise StateError(
            f"listen at {path}", str(error.strerror or error), "name another place with UGRO_AGENT"
        ) from error
    return listener


def remove(path: Path, inode: int) -> None:
    """Remove the socket at `path` if it is still the one with this inode."""
    with suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()
