"""Files that a form brought along, put into one folder: names confined, sizes counted, archives unpacked, no links."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ugro_py.api.statuses import NoRoomError, TooMuchError
from ugro_py.errors import UsageError
from ugro_py.queue.spool_tar import Header

MOST_FILES = 1000
MOST_BYTES = 256 << 20
"""What all files may take together, unpacked."""
SCRIPT = "script.py"
"""What a script is called that was typed into the page."""
_DEEPEST, _LONGEST = 32, 1000
_LARGEST_LISTING = 1 << 20
"""Bytes of the list of its files that a zip archive ends with: all of it is read into memory."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_COMPRESSED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of all others `zipfile` makes as much of what it reads as comes out: of 1 KB gigabytes of memory."""
_BLOCK = 1 << 20
_OTHER_WAY = "use `ugro launch --script F --workdir D`"
_LEAVE_OUT = "__MACOSX"  # what macOS adds to the archives it makes
Named = tuple[str, IO[bytes]]


@dataclass
class Sent:
    """What was chosen in a form: `code` was typed, all else are files by name."""

    code: str = ""
    script: Sequence[Named] = ()
    files: Sequence[Named] = ()
    folder: Sequence[Named] = ()
    archive: Sequence[Named] = ()
    entry: str = ""

    def __bool__(self) -> bool:
        return bool(self.code.strip() or self.script or self.files or self.folder or self.archive)


def gather(sent: Sent, place: Path) -> str:
    """Put everything into the folder `place`, which is empty; returns which of the files is to be run.

    Raises:
        UsageError: a name leads out of the folder, an archive holds a link, or no script can be told.
        TooMuchError: it is more than is taken.
        NoRoomError: there is no room.
    """
    putting = _Putting(place)
    try:
        if sent.code.strip():
            putting.text(SCRIPT, sent.code)
        for putting.what, found in (("script", sent.script), ("file", sent.files)):
            for name, stream in found:
                putting.put(name, stream)
        putting.what = "folder"
        whole = all("/" in name for name, _ in sent.folder)  # browsers send the name of the folder itself too
        for name, stream in sent.folder:
            putting.put(name.partition("/")[2] if whole else name, stream)
        putting.what = "archive"
        for name, stream in sent.archive:
            putting.archive(name, stream)
    except OSError as error:
        raise NoRoomError("take in the files of a job", error.strerror or str(error), "make room") from error
    return _entry(sent, putting.names)


def _entry(sent: Sent, names: Sequence[str]) -> str:
    wanted = sent.entry.strip()
    given = [SCRIPT] if sent.code.strip() else [name for name, _ in sent.script]
    if wanted and wanted not in names:
        raise UsageError("which file to run", f"there is no {wanted[:80]} among the files", _offered(names))
    if len(given) > 1 or (given and wanted and wanted != given[0]):
        raise UsageError(
            "which file to run", "there are two scripts", "choose a file, type one, or name one of the files"
        )
    found = [wanted] if wanted else given or [name for name in names if name.endswith(".py") and "/" not in name]
    if len(found) != 1:
        raise UsageError("which file to run", "is not said, and cannot be told", _offered(found or names))
    return found[0]


def _offered(names: Iterable[str]) -> str:
    scripts = [name for name in names if name.endswith(".py")][:5]
    return f"name one: {', '.join(scripts)}" if scripts else "add a Python script"


class _Putting:
    def __init__(self, place: Path) -> None:
        self._place = place
        self._room = MOST_BYTES
        self.names: list[str] = []
        self.what = "file"

    def _refused(self, name: str, why: str, what_next: str, kind: type[UsageError] = UsageError) -> UsageError:
        shown = "".join(letter if letter.isprintable() else "?" for letter in name)
        return kind(f"{self.what} {shown[:120]}", why, what_next)

    def _too_many(self, name: str) -> UsageError:
        return self._refused(name, f"more than {MOST_FILES} files", _OTHER_WAY, TooMuchError)

    def _too_large(self, name: str, why: str = "") -> UsageError:
        why = f"more than {MOST_BYTES >> 20} MB{why}"
        return self._refused(name, why, "put large data on the nodes", TooMuchError)

    def text(self, name: str, text: str) -> None:
        (self._place / name).write_text(text.replace("\r\n", "\n"), encoding="utf-8", errors="surrogateescape")
        self.names.append(name)

    def put(self, name: str, stream: IO[bytes], *, executable: bool = False) -> None:
        """Write one file; what the stream says is counted, whatever was announced."""
        if not _is_inside(name):
            raise self._refused(name, "is no name of a file inside a folder", "rename it, or pack it again")
        if len(self.names) >= MOST_FILES:
            raise self._too_many(name)
        target = self._place / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                while block := stream.read(_BLOCK):
                    self._room -= len(block)
                    if self._room < 0:
                        raise self._too_large(name, " in all")
                    file.write(block)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise self._refused(name, "is there twice", "leave one out") from error
        if executable:
            target.chmod(0o700)
        self.names.append(name)

    def archive(self, name: str, stream: IO[bytes]) -> None:
        """Unpack a zip or tar archive: plain files only, without the one folder that many have around everything."""
        try:
            # Not `is_zipfile`: the last file of a tar archive may be a zip archive.
            zipped = stream.read(4) in _ZIP
            stream.seek(0)
            (self._zip if zipped else self._tar)(name, stream)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            raise self._refused(name, f"is no zip or tar archive that can be read ({error})", "pack it anew") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._refused(name, f"cannot be unpacked ({error})", "pack it anew") from error  # gzip says so

    def _zip(self, name: str, stream: IO[bytes]) -> None:
        try:
            pack = zipfile.ZipFile(cast(IO[bytes], _InPieces(stream)))
        except _TooLongError as error:
            raise self._too_many(name) from error
        with pack:
            members = [one for one in pack.infolist() if not one.is_dir() and not one.filename.startswith(_LEAVE_OUT)]
            for member in members:
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG):
                    raise self._refused(
                        f"{name}: {member.filename}", "is a link or no plain file", "pack the file itself"
                    )
                if member.compress_type not in _COMPRESSED:
                    raise self._refused(f"{name}: {member.filename}", "is compressed in a rare way", "pack it as usual")
                if member.flag_bits & 1:
                    raise self._refused(f"{name}: {member.filename}", "is encrypted", "pack it without a password")
            around = _around([member.filename for member in members])
            for member in members:
                with pack.open(member) as file:
                    executable = bool(member.external_attr >> 16 & 0o100)
                    self.put(member.filename[len(around) :], file, executable=executable)

    def _tar(self, name: str, stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="r:*", tarinfo=Header) as pack:
            members, count, size = [], 0, 0
            while (member := pack.next()) is not None:
                pack.members.clear()  # type: ignore[attr-defined]  # else all that their headers say stays in memory
                pack.pax_headers, member.pax_headers = {}, {}
                count, size = count + 1, size + member.size + len(member.name)
                if count > 2 * MOST_FILES:  # folders count here too
                    raise self._too_many(name)
                if size > MOST_BYTES:  # before it is read over to get to the next one
                    raise self._too_large(name)
                if not (member.isreg() or member.isdir()) or member.issparse() or member.size < 0:
                    raise self._refused(f"{name}: {member.name}", "is a link or no plain file", "pack the file itself")
                if member.isreg():
                    members.append(member)
            around = _around([member.name.removeprefix("./") for member in members])
            for member in members:
                file = pack.extractfile(member)
                assert file is not None
                with file:
                    inner = member.name.removeprefix("./")[len(around) :]
                    self.put(inner, file, executable=bool(member.mode & 0o100))


class _TooLongError(Exception):
    """More was to be read at once than is taken into memory."""


class _InPieces:
    """A file for `zipfile`, which reads the whole list of an archive's files at once, however long that is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or what is left."""
        found = self._file.read(size if 0 <= size <= _LARGEST_LISTING else _LARGEST_LISTING + 1)
        if len(found) > _LARGEST_LISTING:
            raise _TooLongError
        return found

    def seekable(self) -> bool:
        """Return that places in it can be gone to."""
        return True


def _around(names: Sequence[str]) -> str:
    """Return the folder that all names lie in, with its slash; nothing without one, or where a name leads elsewhere."""
    if not all(map(_is_inside, names)):
        return ""
    first = {name.partition("/")[0] for name in names}
    return f"{first.pop()}/" if len(first) == 1 and all("/" in name for name in names) else ""


def _is_inside(name: str) -> bool:
    """Return whether this is the name of a file inside a folder: not absolute, not elsewhere, and text."""
    words = name.split("/")
    plain = name.isprintable() and "\\" not in name and len(words) <= _DEEPEST and len(name) <= _LONGEST
    return plain and all(word not in ("", ".", "..") and len(os.fsencode(word)) <= 255 for word in words)
