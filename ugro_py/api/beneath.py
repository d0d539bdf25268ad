"""Opens files of a job's folder, and nothing else: a job may have left links in it that lead anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ugro_py.errors import NotFoundError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for the other end of a pipe.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_beneath(root: Path, name: str) -> int:
    """Return a descriptor of the plain file `name` under `root`; no link on the way is followed.

    Raises:
        NotFoundError: there is no such file, or it is a link, a pipe or a device, or lies behind a link.
    """
    words = name.split("/")
    if any(word in ("", ".", "..") or "\0" in word for word in words):
        raise _no_file(name)
    try:
        here = os.open(root, _FOLDER)
        for word in words[:-1]:
            try:
                below = os.open(word, _FOLDER, dir_fd=here)
            finally:
                os.close(here)
            here = below
        try:
            found = os.open(words[-1], _FILE, dir_fd=here)
        finally:
            os.close(here)
    except OSError as error:
        raise _no_file(name) from error
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise _no_file(name)
    return found


def files_beneath(root: Path) -> Iterator[tuple[str, int]]:
    """Yield the plain files under `root` by their relative names, with their sizes in bytes; links are left out."""
    for folder, folders, names in os.walk(root, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # removed meanwhile
            if stat.S_ISREG(status.st_mode):
                yield str(path.relative_to(root)), status.st_size


def _no_file(name: str) -> NotFoundError:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return NotFoundError(f"file {shown[:100]!r}", "the job has no such file", "see its list of files")
