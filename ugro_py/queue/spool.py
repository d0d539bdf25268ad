"""What a job will run, kept as it was submitted: its code, and the data set and model that are files here.

A job that waits is started with these files, whatever their owner has edited meanwhile; a retry, `ugro resume` and
`ugro rerun` use the same code again. A spool is a folder in the job's folder of the central store, there whole or not
at all; what it holds is verified by digest when it is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ugro_py import paths
from ugro_py.errors import StateError, UsageError
from ugro_py.paths import JobPaths
from ugro_py.plan import is_path
from ugro_py.request.job import JobRequest
from ugro_py.stage import Bundle, bundle, bundle_of

CODE, MODEL, DATA = "code", "model", "data"
WORDS = {MODEL: "{model}", DATA: "{data}"}
"""Which word of a command stands for which part of a spool."""

_FICLONE = 0x40049409
_STALE_S = 86400.0
_CLEAN_EVERY_S = 60.0
_cleaned_at = -_CLEAN_EVERY_S


@dataclass(frozen=True)
class Sources:
    """What goes to the nodes: the code, and by part (`MODEL`, `DATA`) what else is on this machine.

    `git` is what `capsule.git` said of the code's folder, None where that was not asked; `changed` names parts that
    are no longer what they were when the job was submitted.
    """

    code: Bundle
    others: Mapping[str, Bundle] = field(default_factory=dict)
    git: dict[str, Any] | None = None
    changed: tuple[str, ...] = ()


def wanted(request: JobRequest) -> dict[str, Path]:
    """Return the folder or file on this machine of each part that a checked request needs."""
    found = {CODE: Path(request.workdir) if request.workdir else paths.train_dir()}
    if request.script is None:
        found |= {part: Path(name) for part, name in ((MODEL, request.model), (DATA, request.dataset)) if is_path(name)}
    return found


def read(request: JobRequest) -> Sources:
    """Read what a request needs from where its owner has it.

    Raises:
        UsageError: a file cannot be read.
    """
    found = {part: bundle(path) for part, path in wanted(request).items()}
    return Sources(found.pop(CODE), found)


def write(sources: Sources, *, only_code: bool = False) -> Path:
    """Copy the files into a folder of its own in the inbox and return it; `commit` makes it a job's spool.

    With `only_code` of the other parts only their place and digest are kept: the job starts at once.

    Raises:
        UsageError: a file changed or went while it was read.
        StateError: there is no room.
    """
    folder = new_folder()
    try:
        parts = {CODE: _copied(sources.code, folder / CODE)}
        for part, content in sources.others.items():
            parts[part] = _place_of(content) if only_code else _copied(content, folder / part)
        _write_manifest(folder, parts, sources.git)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return folder


def new_folder() -> Path:
    """Return a new folder in the inbox; what interrupted submissions left there a day ago is removed."""
    global _cleaned_at
    inbox = paths.spool_inbox()
    try:
        inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        clean = time.monotonic() - _cleaned_at > _CLEAN_EVERY_S
        if clean:
            _cleaned_at = time.monotonic()
        for old in inbox.iterdir() if clean else ():
            with contextlib.suppress(FileNotFoundError):  # another submission took its own meanwhile
                if time.time() - old.stat().st_mtime > _STALE_S:
                    shutil.rmtree(old)
        return Path(tempfile.mkdtemp(dir=inbox))
    except OSError as error:
        raise StateError(f"write to {inbox}", error.strerror or str(error), "make room, then try again") from error


def describe(folder: Path, files: Mapping[str, Sequence[str]], singles: Collection[str] = ()) -> None:
    """Write the manifest of a folder that was filled from outside.

    Args:
        folder: with a folder for each part.
        files: the files of each part, in the order in which they were sent.
        singles: the parts that are one file.
    """
    parts = {}
    for part, names in files.items():
        root = folder / part
        content = bundle_of(root, [(name, root / name) for name in names], single=part in singles)
        parts[part] = _kept(content)
    _write_manifest(folder, parts)


def commit(folder: Path, job: str) -> None:
    """Make what `write` or `describe` left the spool of a job that exists."""
    target = JobPaths(job).spool
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not target.exists():
            folder.rename(target)
        else:
            shutil.rmtree(folder)  # of an earlier attempt, which is what the job was submitted with
    except OSError as error:
        raise StateError(
            f"keep the files of job {job}", error.strerror or str(error), "make room, then try again"
        ) from error


def exists(job: str) -> bool:
    """Return whether the job has a spool."""
    return (JobPaths(job).spool / paths.SPOOL_MANIFEST).is_file()


def load(job: str) -> Sources:
    """Return what the job was submitted with.

    Raises:
        StateError: the job has no spool, what it holds is not what was submitted, or an upload is not kept any more.
        UsageError: a data set or model that was not kept cannot be read any more.
    """
    folder = JobPaths(job).spool
    try:
        manifest = json.loads((folder / paths.SPOOL_MANIFEST).read_text(encoding="utf-8"))
        parts, git = manifest["parts"], manifest.get("git")
    except (OSError, ValueError, KeyError) as error:
        raise StateError(f"files of job {job}", f"{folder} has none", "launch it anew") from error
    changed: list[str] = []
    found = {}
    for part, known in parts.items():
        root = folder / part
        if known["kept"] and (root.is_dir() or part == CODE):
            found[part] = _as_submitted(job, root, known)
            continue
        if not known["path"]:  # an upload, removed when the job had ended
            raise StateError(f"files of job {job}", f"its {part} is not kept any more", "launch it anew")
        found[part] = content = bundle(Path(known["path"]))
        if content.digest != known["digest"]:
            changed.append(part)
    return Sources(found.pop(CODE), found, git, tuple(changed))


def _as_submitted(job: str, root: Path, known: Mapping[str, Any]) -> Bundle:
    """Return a part that is kept. A failure of power may have left less of it: files are not synced one by one."""
    try:
        content = bundle_of(root, [(name, root / name) for name in known["files"]], single=known["single"])
    except UsageError as error:
        raise StateError(f"files of job {job}", error.what, "launch it anew") from error
    if content.digest != known["digest"]:
        raise StateError(f"files of job {job}", f"{root} is not what was submitted", "launch it anew")
    return content


def forget_sources(job: str) -> None:
    """Remove the copies of data sets and models of a job that has ended; its code stays, for `ugro rerun`."""
    for part in WORDS:
        folder = JobPaths(job).spool / part
        if folder.is_dir():
            shutil.rmtree(folder)


def copy(old: str) -> Path:
    """Return a folder in the inbox with the same files as the spool of job `old`.

    Raises:
        StateError, UsageError: as `load`.
    """
    return write(load(old))


def _write_manifest(folder: Path, parts: Mapping[str, Mapping[str, Any]], git: Mapping[str, Any] | None = None) -> None:
    text = json.dumps({"parts": parts, "git": git}, indent=1)
    try:
        (folder / paths.SPOOL_MANIFEST).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StateError(f"write to {folder}", error.strerror or str(error), "make room, then try again") from error


def _kept(content: Bundle, path: str = "") -> dict[str, Any]:
    return {
        "kept": True, "path": path, "files": list(content.files), "digest": content.digest, "single": content.single,
    }  # fmt: skip


def _place_of(content: Bundle) -> dict[str, Any]:
    path = content.root / content.files[0] if content.single else content.root
    return {"kept": False, "path": str(path), "digest": content.digest}


def _copied(content: Bundle, target: Path) -> dict[str, Any]:
    """Copy a bundle into `target` and return what the manifest says of it."""
    room = shutil.disk_usage(target.parent).free
    if content.size > room:
        raise StateError(
            f"keep a copy of {content.root}", f"{content.size / 2**30:.1f} GB needed, {room / 2**30:.1f} GB free",
            "make room in the central store",
        )  # fmt: skip
    target.mkdir(mode=0o700)
    for name in content.files:
        try:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            _copy_file(content.root / name, target / name)
        except FileNotFoundError as error:
            raise UsageError(f"read {content.root / name}", "it went meanwhile", "try again") from error
        except OSError as error:
            said = error.strerror or str(error)
            raise StateError(f"keep a copy of {content.root / name}", said, "make room or correct it") from error
    # The digest is that of the copy: a file may have been written to since the bundle was read.
    copied = bundle_of(target, [(name, target / name) for name in content.files], single=content.single)
    return _kept(copied, _place_of(content)["path"])


def _copy_file(source: Path, target: Path) -> None:
    """Copy one file, without taking room where the file system can share it; links stay links."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    with source.open("rb") as reading, target.open("xb") as writing:
        try:
            fcntl.ioctl(writing, _FICLONE, reading.fileno())
        except OSError:
            shutil.copyfileobj(reading, writing, 1 << 20)
        os.fchmod(writing.fileno(), 0o600 | (os.fstat(reading.fileno()).st_mode & 0o111))
