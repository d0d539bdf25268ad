"""Checkpoints that are whole or not there.

`epoch_1.pt`, `step_000100.pt` and `final.pt` each have a manifest beside them (`epoch_1.pt.json`), written
last. A file without a manifest, or one whose size or hash differs, is skipped when resuming.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO

import torch
from errors import TrainingError, WrongInput

_HEADROOM = 16 << 20  # bytes beside the tensors: structure, tokenizer, manifest
_STEP_FILE = re.compile(r"step_\d+\.pt")


class CheckpointFolder:
    """The checkpoints of a job, on the node of rank 0."""

    def __init__(self, folder: Path, keep_steps: int) -> None:
        self.folder = folder
        self.keep_steps = keep_steps

    def save(self, name: str, state: dict[str, Any], about: dict[str, Any]) -> Path:
        """Write `state` as `name` atomically, then its manifest with `about`; drop surplus step files.

        Raises:
            TrainingError: the disk is full or cannot be written; what was there before is untouched.
        """
        path, temporary = self.folder / name, self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_half_written()
            self._check_space(name, _size_of(state) + _HEADROOM)
            _manifest_of(path).unlink(missing_ok=True)
            with temporary.open("wb") as stream:
                hashing = _HashingWriter(stream)
                torch.save(state, hashing)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(path)
            self._write_manifest(path, {**about, "size": path.stat().st_size, "sha256": hashing.hexdigest()})
            self._drop_surplus()
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, RuntimeError) and not isinstance(error.__context__, OSError):
                raise  # not the disk
            raise self._failed(name, error) from error
        return path

    def mark_final(self, path: Path) -> Path:
        """Give the checkpoint `path` the second name `final.pt` (a hard link, or a copy)."""
        final, temporary = self.folder / "final.pt", self.folder / ".final.pt.tmp"
        try:
            temporary.unlink(missing_ok=True)
            try:
                os.link(path, temporary)
            except OSError:  # no hard links here
                self._check_space("final.pt", path.stat().st_size)
                shutil.copyfile(path, temporary)
            _manifest_of(final).unlink(missing_ok=True)
            temporary.rename(final)
            self._write_manifest(final, json.loads(_manifest_of(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise self._failed("final.pt", error) from error
        return final

    def _check_space(self, name: str, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise TrainingError(
                f"checkpoint {name} needs {needed / 2**20:.0f} MB, but {free / 2**20:.0f} MB are free in "
                f"{self.folder}; earlier checkpoints are intact: make room, then resume"
            )

    def _failed(self, name: str, error: Exception) -> TrainingError:
        cause = error if isinstance(error, OSError) else error.__context__
        full = isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}
        return TrainingError(
            f"checkpoint {name} could not be written to {self.folder}: {cause}; earlier checkpoints are intact: "
            f"{'make room' if full else 'check the folder'}, then resume"
        )

    def _write_manifest(self, path: Path, about: dict[str, Any]) -> None:
        manifest = _manifest_of(path)
        temporary = manifest.with_name(f".{manifest.name}.tmp")
        written_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        about = {**about, "file": path.name, "complete": True, "written_at": written_at}
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(about, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(manifest)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the names themselves
        finally:
            os.close(folder)

    def _remove_half_written(self) -> None:
        for left in self.folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)

    def _drop_surplus(self) -> None:
        steps = sorted(p for p in self.folder.glob("step_*.pt") if _STEP_FILE.fullmatch(p.name))
        for path in steps[: -self.keep_steps]:
            _manifest_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def find(wanted: str, folder: Path, explicit: bool) -> tuple[Path | None, list[str]]:
    """Return the checkpoint to resume from (None: start from scratch), and why others were skipped.

    Args:
        wanted: a file, a folder, or `auto` for the newest valid one in `folder`.
        folder: this job's checkpoints.
        explicit: a person named it. If not, a broken one gives way to the newest valid one beside it.

    Raises:
        WrongInput: `wanted` is named explicitly and is missing or not valid, or has no valid checkpoint.
    """
    path = folder if wanted == "auto" else Path(wanted).expanduser()
    skipped: list[str] = []
    candidates = [] if path.is_dir() or wanted == "auto" else [path]
    if not candidates or not explicit:
        candidates += _newest_first(path if path.is_dir() else path.parent)
    for candidate in candidates:
        problem = why_invalid(candidate)
        if problem is None:
            return candidate, skipped
        if f"{candidate.name}: {problem}" not in skipped:
            skipped.append(f"{candidate.name}: {problem}")
    if wanted != "auto" and explicit:
        found = "; ".join(skipped) or "it holds no checkpoint"
        raise WrongInput(f"cannot resume from {wanted}: {found}; name another one, or start without --resume")
    return None, skipped


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder` by descending step; those whose manifest is unusable come last."""

    def step(path: Path) -> int:
        manifest = read_manifest(path)
        return int(manifest["step"]) if manifest else -1

    return sorted(folder.glob("[!.]*.pt"), key=lambda path: (step(path), path.name), reverse=True)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest of the checkpoint `path`, or None if there is none that can be used."""
    try:
        manifest = json.loads(_manifest_of(path).read_text(encoding="utf-8"))
        int(manifest["step"]), int(manifest["size"]), str(manifest["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if manifest.get("complete") is True else None


def why_invalid(path: Path) -> str | None:
    """Return what is wrong with the checkpoint `path`, None if it is whole."""
    if not path.is_file():
        return "no such file"
    manifest = read_manifest(path)
    if manifest is None:
        return "it has no valid manifest (half-written?)"
    size = path.stat().st_size
    if size != manifest["size"]:
        return f"it has {size} bytes, its manifest says {manifest['size']}"
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != manifest["sha256"]:
            return "its hash is not the one in its manifest"
    return None


def load(path: Path) -> dict[str, Any]:
    """Return the state in the checkpoint `path`, on the CPU; only data is read, never code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WrongInput(f"checkpoint {path} cannot be loaded: {first}; resume from another one") from error


def _manifest_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _size_of(state: Any) -> int:
    """Return the bytes of all tensors in the nested `state`."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(_size_of(value) for value in state.values())
    if isinstance(state, list | tuple):
        return sum(_size_of(value) for value in state)
    return 0


class _HashingWriter:
    """A file that knows the SHA-256 of what was written; torch.save writes strictly in order."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
