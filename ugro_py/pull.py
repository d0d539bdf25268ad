"""Copy a job's folder of the central store to where a person wants it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ugro_py.errors import NotFoundError, StateError, UsageError
from ugro_py.names import check_name
from ugro_py.paths import JobPaths

Progress = Callable[[int, int], None]
Copied = tuple[int, int, tuple[Path, ...]]

_CHUNK = 1 << 20
# A folder with two of these is a pull of a job: what --force may replace.
_JOB = JobPaths("job")
_SIGNS = {_JOB.config.name, _JOB.metrics.name, _JOB.attempts.name, _JOB.logs.name}


@dataclass(frozen=True)
class Pulled:
    """What was copied: `skipped` are links that lead out of the job's folder, what is no file, and what is gone."""

    target: Path
    files: int
    size: int
    skipped: tuple[Path, ...]


def pull(job: str, target: Path, *, force: bool = False, progress: Progress | None = None) -> Pulled:
    """Copy everything the central store has of `job` into the folder `target`.

    The copy is made beside the target and renamed when it is whole. Links are copied as links if they stay inside
    the job's folder, and left out otherwise; hard links stay one file.

    Args:
        target: a folder that does not exist, is empty, or (with `force`) holds an earlier pull, which is replaced.
        progress: called with the bytes copied so far and in all.

    Raises:
        NotFoundError: the central store has nothing of the job.
        UsageError: the target is in the way, or inside the job's folder.
        StateError: the copy could not be made; the target is as it was.
    """
    source = JobPaths(check_name(job)).root
    if not source.is_dir():
        raise NotFoundError(f"files of job {job}", f"there is no {source}", f"see `ugro status {job}`")

    def copy(part: Path) -> Copied:
        return _copy(source, part, progress or (lambda done, total: None))

    return pull_into(job, target, copy, source=source.resolve(), force=force)


def pull_into(
    job: str, target: Path, copy: Callable[[Path], Copied], *, source: Path | None = None, force: bool = False
) -> Pulled:
    """Have `copy` fill a folder beside `target`, and rename it when it is whole.

    Args:
        job: its name, for errors.
        target: see `pull`.
        copy: makes the folder it is given, and returns how many files and bytes it put there, and what it left out.
        source: the job's own folder where it is on this machine, which the target must not be in.
        force: see `pull`.

    Raises:
        UsageError: the target is in the way.
        StateError: the copy could not be made; the target is as it was.
    """
    target = Path(os.path.abspath(target.expanduser()))  # noqa: PTH100 - `resolve` would follow a link
    _check_target(target, source, force)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        copied = copy(part)
        _put_in_place(part, target)
    except OSError as error:
        what = f"{job}: copy to {target}"
        hint = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another folder"
        raise StateError(what, f"{error.strerror}: {error.filename}" if error.filename else str(error), hint) from error
    finally:
        if part.exists():
            shutil.rmtree(part)
    return Pulled(target, *copied)


def _check_target(target: Path, source: Path | None, force: bool) -> None:
    if source is not None and (source == target.resolve() or source in target.resolve().parents):
        raise UsageError(f"pull to {target}", "it is inside the job's own folder", "choose another folder")
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise UsageError(f"pull to {target}", "it exists and is no folder", "choose another folder")
    names = {path.name for path in target.iterdir()}
    if not names:
        return
    if not force:
        raise UsageError(
            f"pull to {target}", "the folder is not empty", "choose another one, or --force to replace an earlier pull"
        )
    if len(names & _SIGNS) < 2:
        raise UsageError(
            f"pull to {target} with --force", "the folder holds no earlier pull of a job", "choose another folder"
        )


def _walk(folder: Path, top: bool = True) -> Iterator[os.DirEntry[str]]:
    """Yield everything below a job's folder; hidden names at its top are copies that are being made."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if top and entry.name.startswith("."):
                continue
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), top=False)


def _copy(source: Path, part: Path, progress: Progress) -> Copied:
    """Copy the tree; return the number of files, their bytes and what was left out."""
    part.mkdir(mode=0o700)
    inside = source.resolve()
    total = sum(e.stat(follow_symlinks=False).st_size for e in _walk(source) if e.is_file(follow_symlinks=False))
    copies: dict[tuple[int, int], Path] = {}
    skipped: list[Path] = []
    files = size = 0
    for entry in _walk(source):
        path = Path(entry.path)
        to = part / path.relative_to(source)
        stat = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            leads_to = path.readlink()
            if leads_to.is_absolute() or not path.resolve().is_relative_to(inside):
                skipped.append(path)
                continue
            to.symlink_to(leads_to)
        elif entry.is_dir(follow_symlinks=False):
            to.mkdir()
        elif not entry.is_file(follow_symlinks=False):
            skipped.append(path)
            continue
        elif stat.st_nlink > 1 and (stat.st_dev, stat.st_ino) in copies:
            to.hardlink_to(copies[stat.st_dev, stat.st_ino])
            progress(size := size + stat.st_size, total)
            files += 1
        else:
            with path.open("rb") as reader, to.open("wb") as writer:
                while chunk := reader.read(_CHUNK):
                    writer.write(chunk)
                    size += len(chunk)
                    progress(size, total)
            shutil.copystat(path, to)
            copies[stat.st_dev, stat.st_ino] = to
            files += 1
    return files, size, tuple(skipped)


def _put_in_place(part: Path, target: Path) -> None:
    """Rename the whole copy to `target`; an earlier pull is moved aside first and then removed."""
    if target.exists() and any(target.iterdir()):
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        target.rename(old)
        try:
            part.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old)
    elif target.exists():
        # An empty folder stays the same folder: somebody may stand in it.
        for path in part.iterdir():
            path.rename(target / path.name)
    else:
        part.rename(target)
