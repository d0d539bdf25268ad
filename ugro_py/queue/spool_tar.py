"""A spool on its way to the agent: one tar stream, packed by who submits, unpacked with nothing trusted.

Names begin with the part (`code/…`, `data/…`; a part that is one file with `data.file/…`). A last entry `end` says
that nothing was cut off. Digests are not sent: who receives the files computes them.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from ugro_py.errors import StateError, UsageError
from ugro_py.queue import spool
from ugro_py.stage import Bundle

MAX_BYTES = 64 << 30
MAX_FILES = 500_000

_LOOK_EVERY = 1000
_LARGEST_HEADER = 1 << 18
_EXTENDED = frozenset(
    (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
)
_END = "end"
_FILE = ".file"
_PARTS = {spool.CODE: (spool.CODE, False)} | {
    name + suffix: (name, bool(suffix)) for name in spool.WORDS for suffix in ("", _FILE)
}


def pack(sources: spool.Sources, stream: IO[bytes]) -> None:
    """Write the files of a job to `stream`.

    Raises:
        UsageError: a file cannot be read, or is a link that leaves its folder.
    """
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for part, content in {spool.CODE: sources.code, **sources.others}.items():
            top = part + (_FILE if content.single else "")
            for name in content.files:
                _add(tar, content, name, f"{top}/{name}")
        end = tarfile.TarInfo(_END)
        end.type = tarfile.DIRTYPE
        tar.addfile(end)


def _add(tar: tarfile.TarFile, content: Bundle, name: str, arcname: str) -> None:
    path = content.root / name
    try:
        member = tarfile.TarInfo(arcname)
        if path.is_symlink():
            member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
            if _leaves(name, member.linkname):
                raise UsageError(f"send {path}", f"it is a link out of its folder, to {member.linkname}",
                                 "copy the file there, or list the link in .ugroignore")  # fmt: skip
            tar.addfile(member)
            return
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            member.size, member.mode = status.st_size, 0o600 | (status.st_mode & 0o111)
            tar.addfile(member, file)
    except OSError as error:
        raise UsageError(f"read {path}", error.strerror or str(error), "correct it, then try again") from error


def unpack(
    stream: IO[bytes],
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    check: Callable[[], None] = lambda: None,
) -> tuple[Path, set[str]]:
    """Take in what `pack` wrote: returns a folder in the inbox for `spool.commit`, and the parts it has.

    Args:
        stream: read once, from its beginning to its end.
        max_bytes: how much the files may take together.
        max_files: how many entries there may be.
        check: called now and then on the way; what it raises ends it.

    Raises:
        UsageError: it is no such archive, is cut off or too large, or an entry is not a plain file, folder or link
            inside its part. Nothing is left then.
        StateError: there is no room.
    """
    folder = spool.new_folder()
    try:
        taken = _Unpacking(folder, max_bytes, max_files, check)
        taken.run(stream)
        spool.describe(folder, taken.files(), taken.singles())
        return folder, set(taken.files())
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:  # what tarfile makes of rubbish
        shutil.rmtree(folder)
        raise _refused("it", f"is no tar archive ({error})") from error
    except OSError as error:
        shutil.rmtree(folder)
        raise StateError("take in the files of a job", error.strerror or str(error), "make room") from error
    except BaseException:
        shutil.rmtree(folder)
        raise


class Header(tarfile.TarInfo):
    """A header of an archive: tarfile reads the extended ones (long names, say) into memory, so none may be large."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
        """Return the header that these bytes are.

        Raises:
            UsageError: it announces an extended header that is too large.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and header.size > _LARGEST_HEADER:
            raise _refused("it", "has a header that is too large")
        return header


class _Unpacking:
    def __init__(self, folder: Path, max_bytes: int, max_files: int, check: Callable[[], None]) -> None:
        self._folder = folder
        self._check_now = check
        self._room, self._max_files = max_bytes, max_files
        self._seen: dict[PurePosixPath, None] = {}  # in order
        self._links: set[PurePosixPath] = set()
        self._forms: dict[str, bool] = {}

    def files(self) -> dict[str, list[str]]:
        """Return the files of each part, in the order in which they came."""
        found: dict[str, list[str]] = {part: [] for part in self._forms}
        for name in self._seen:
            found[name.parts[0]].append(str(PurePosixPath(*name.parts[1:])))
        return found

    def singles(self) -> list[str]:
        """Return the parts that are one file."""
        return [part for part, single in self._forms.items() if single]

    def run(self, stream: IO[bytes]) -> None:
        """Unpack everything."""
        ended = False
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header) as tar:
            count = 0
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else each stays in memory, with all its headers
                tar.pax_headers = {}
                if count % _LOOK_EVERY == 0:
                    self._check_now()
                count += 1
                if ended:
                    raise _refused(member.name, "comes after the end")
                if member.name == _END and member.isdir():
                    ended = True
                    continue
                self._take(tar, member)
        if not ended:
            raise _refused("it", "is cut off")
        self._check_links()
        for part in self.singles():
            if len(self.files()[part]) != 1:
                raise _refused(part, "is to be one file")

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = self._checked(member)
        target = self._folder / name
        self._make_folder(target if member.isdir() else target.parent)
        if member.isdir():
            return
        if member.issym():
            if _leaves(str(PurePosixPath(*name.parts[1:])), member.linkname):
                raise _refused(member.name, "is a link out of its folder")
            self._links.add(name)
            target.symlink_to(member.linkname)
            return
        data = tar.extractfile(member)
        assert data is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600 | (member.mode & 0o111))
            shutil.copyfileobj(data, file, 1 << 20)
            if file.tell() != member.size:
                raise _refused(member.name, "is cut off")

    def _checked(self, member: tarfile.TarInfo) -> PurePosixPath:
        """Return where an entry belongs, relative to the folder."""
        words = member.name.rstrip("/").split("/")
        if member.name.startswith("/") or any(
            word in ("", ".", "..") or "\0" in word or len(os.fsencode(word)) > 255 for word in words
        ):
            raise _refused(member.name, "is no name of a file inside")
        if words[0] not in _PARTS or (len(words) < 2 and not member.isdir()):
            raise _refused(member.name, f"is not in {', '.join(sorted(_PARTS))}")
        if not (member.isreg() or member.isdir() or member.issym()) or member.issparse() or member.size < 0:
            raise _refused(member.name, "is neither a file, a folder nor a link")
        part, single = _PARTS[words[0]]
        if self._forms.setdefault(part, single) != single:
            raise _refused(member.name, "is a file and a folder at once")
        name = PurePosixPath(part, *words[1:])
        if name in self._seen and not member.isdir():
            raise _refused(member.name, "is there twice")
        if any(parent in self._links for parent in (name, *name.parents)):
            raise _refused(member.name, "lies behind a link")
        if not member.isdir():
            self._seen[name] = None
        self._max_files -= 1
        self._room -= member.size
        if self._room < 0 or self._max_files < 0:
            raise _refused("it", "is too large")
        return name

    def _make_folder(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as error:
            raise _refused(str(path.relative_to(self._folder)), "is a file and a folder at once") from error

    def _check_links(self) -> None:
        """Follow every link as the system would: several that are harmless alone may lead out together."""
        for name in self._links:
            inside = os.path.realpath(self._folder / name.parts[0])
            if os.path.commonpath([inside, os.path.realpath(self._folder / name)]) != inside:
                raise _refused(str(name), "leads out of its folder")


def _leaves(name: str, target: str) -> bool:
    """Return whether a link called `name` in a folder points out of it."""
    end = os.path.normpath(PurePosixPath(name).parent / target)
    return target.startswith("/") or end == ".." or end.startswith("../")


def _refused(name: str, why: str) -> UsageError:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return UsageError(f"files of a job: {shown[:80]}", why, "submit with `ugro launch`")
