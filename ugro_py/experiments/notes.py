"""The Markdown notes of an experiment: UGRO's figures between two markers, a person's words around them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import shlex
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ugro_py import paths
from ugro_py.display import duration, number
from ugro_py.errors import StateError
from ugro_py.results import JobResults, LossPoint

BEGIN = "<!-- ugro: figures, rewritten by ugro; write outside of these marks -->"
END = "<!-- ugro: end of figures -->"
_PATIENCE_S = 30.0
_HERE, _NO_REPLACE, _EXCHANGE = -100, 1, 2  # of renameat2(2): AT_FDCWD, RENAME_NOREPLACE, RENAME_EXCHANGE


def write(results: JobResults, more: Mapping[str, Any] | None = None, tags: Sequence[str] = (), note: str = "") -> Path:
    """Write the notes of a job, or refresh the figures in them; return their path.

    Args:
        results: its figures.
        more: what `ugro_py.experiments.figures` adds to them.
        tags: of the job.
        note: what `ugro results note` keeps with the job.

    Raises:
        StateError: the notes cannot be read or written.
    """
    path = paths.experiment_notes(results.job)
    block = f"{BEGIN}\n{figures(results, more or {}, tags, note)}\n{END}".encode("utf-8", "replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.parent):
            while not _refresh(path, f"# {results.job}\n\n".encode(), block, b"\n\n## Notes\n\n"):
                pass  # somebody saved the file just now: what they wrote is read first
    except OSError as error:
        raise StateError(f"{path}: write the experiment's notes", str(error), "check the file and the disk") from error
    return path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes of UGRO from writing notes meanwhile; BlockingIOError if one hangs while it does."""
    descriptor = os.open(folder, os.O_RDONLY)
    end = time.monotonic() + _PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
            except OSError:
                break  # a file system that knows no locks of folders
        yield
    finally:
        os.close(descriptor)


def _refresh(path: Path, head: bytes, block: bytes, foot: bytes) -> bool:
    """Put the block in the place of the old one; return False where somebody saved the file meanwhile: begin again.

    All else stays as it is, to the byte: encoding, line ends, owner and rights. A file whose marks are not there once
    each, in their order, stays as it is altogether.
    """
    target = path.resolve()  # where a person made it a link, the file it leads to
    begin, end = BEGIN.encode(), END.encode()
    old = target.read_bytes() if target.exists() else None
    if old is None:
        text = head + block + foot
    elif old.count(begin) == old.count(end) == 1 and old.index(begin) < old.index(end):
        before, _, rest = old.partition(begin)
        text = before + block + rest.partition(end)[2]
    else:
        text = old
    if text == old:
        return True
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")  # two processes may write at once
    try:
        with part.open("xb") as stream:
            stream.write(text)
            if old is not None:
                _be_like(stream.fileno(), target)
            stream.flush()
            os.fsync(stream.fileno())
        return _rename(part, target, _NO_REPLACE) if old is None else _swap(part, target, text, old)
    except FileNotFoundError:
        return False  # somebody moved it away meanwhile
    finally:
        part.unlink(missing_ok=True)


def _be_like(descriptor: int, target: Path) -> None:
    """Give an open file owner, group, rights and attributes of another one, which it is to replace.

    Raises:
        PermissionError: it is another user's, and who runs this may not give files away: theirs it stays, as it is.
    """
    status = target.stat()
    mine = os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    with suppress(OSError):  # a file system may have none
        for name in os.listxattr(target):
            with suppress(OSError):  # lists of access rights come along; what only the system sets does not
                os.setxattr(descriptor, name, os.getxattr(target, name))


def _swap(part: Path, target: Path, text: bytes, old: bytes) -> bool:
    """Let `part`, which holds `text`, take the place of `target`; whatever that held but `old` is given back."""
    put, believed = text, old
    while _rename(part, target, _EXCHANGE):
        found = part.read_bytes() if part.exists() else believed
        if found == believed:
            return put is text
        put, believed = found, put  # somebody saved just now; perhaps once more while this is given back
    return False


def _rename(part: Path, target: Path, how: int) -> bool:
    """Rename `part` as renameat2(2) does, which Python does not know; where the file system does not, replace.

    Returns:
        Whether it was done: `_NO_REPLACE` is not where `target` exists, `_EXCHANGE` not where it does not.
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(part), os.fsencode(target))
    if hasattr(library, "renameat2") and library.renameat2(_HERE, names[0], _HERE, names[1], how) == 0:
        return True
    failed = ctypes.get_errno() if hasattr(library, "renameat2") else errno.ENOSYS
    if failed in (errno.EEXIST, errno.ENOENT):
        return False
    if failed not in (errno.ENOSYS, errno.EINVAL):
        raise OSError(failed, os.strerror(failed), str(target))
    part.replace(target)
    return True


def figures(results: JobResults, more: Mapping[str, Any], tags: Sequence[str] = (), note: str = "") -> str:
    """Return the figures of a job as a Markdown table, and what it ran."""
    rows = [
        ("Status", f"{results.status} ({results.reason})" if results.reason else results.status),
        ("Started", f"{results.started_at:%Y-%m-%d %H:%M:%S} UTC" if results.started_at else "-"),
        ("Duration", duration(results.duration_s)),
        ("Ranks", f"{results.ranks} on {', '.join(results.nodes) or '-'}"),
        ("Attempts", str(results.attempts)),
        ("Steps", number(results.steps)),
        ("Loss, first", loss(results.loss_first)),
        ("Loss, last", last_loss(results)),
        ("Loss, best", loss(results.loss_best)),
        *([("Loss, NaN or infinite", no_number(results.nonfinite_steps))] if results.nonfinite_steps else ()),
        ("Throughput", number(results.throughput_tokens_sec, "tokens/s")),
        ("GPU utilisation, mean", number(results.gpu_util_percent, "%")),
        ("GPU memory, mean", number(results.gpu_mem_gb, "GB")),
        ("GPU hours", number(more.get("gpu_hours"))),
        ("GPU energy", number(more.get("energy_kwh"), "kWh")),
        ("Tags", ", ".join(tags) or "-"),
        ("Checkpoint", results.checkpoint or "-"),
        ("TensorBoard", results.tensorboard or "-"),
        ("Files", results.store),
    ]
    text = "| | |\n|---|---|\n" + "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)
    if note:
        rows_of_note = "\n".join(f"> {_cell(line)}".rstrip() for line in note.splitlines())
        text += f"\n\n{rows_of_note}"
    program = _capsule(results.job).get("program")
    if isinstance(program, list) and all(isinstance(word, str) for word in program):
        text += f"\n\n{_fenced(shlex.join(program))}"
    return text


def loss(point: LossPoint | None) -> str:
    """Return a loss and its step for people."""
    return f"{number(point.loss)} at step {point.step}" if point else "-"


def last_loss(results: JobResults) -> str:
    """Return the last loss for people: one that is no number says since when, and what the last number was."""
    if results.nonfinite_since is None:
        return loss(results.loss_last)
    before = f"; before that {loss(results.curve[-1])}" if results.curve else ""
    return f"NaN or infinite from step {results.nonfinite_since} on{before}"


def no_number(steps: int) -> str:
    """Return for people how many steps have a loss that is NaN or infinite."""
    return f"at {steps:,} {'step' if steps == 1 else 'steps'}"


def _capsule(job: str) -> dict[str, Any]:
    try:
        value = json.loads(paths.JobPaths(job).config.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _cell(text: str) -> str:
    """Return text that cannot end a cell, nor be read as HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    # An underscore within a word means nothing in Markdown: paths read as they are.
    return re.sub(r"([\\|`*\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def _fenced(text: str) -> str:
    """Return a code block; its fence is longer than any run of backticks in it, and it holds no marker."""
    text = text.replace("<!--", "<! --")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n{text}\n{fence}"
