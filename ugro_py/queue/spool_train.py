"""UGRO's own training as a spool that is made once: a job that runs it gets links to its files instead of copies."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

from ugro_py import paths
from ugro_py.errors import UgroError
from ugro_py.queue import spool
from ugro_py.stage import bundle, bundle_of

_LOOK_S = 5.0
"""For so long nobody looks whether UGRO was updated meanwhile."""


class Training:
    """The training code for new jobs. May be used by several threads.

    What a job runs stays the same whatever happens to UGRO later: a digest names the copy, an update makes another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked = 0.0
        self._kept = Path()
        self._files: tuple[str, ...] = ()
        self._folders: tuple[str, ...] = ()

    def spool(self) -> Path:
        """Return a folder in the inbox for `spool.commit`.

        Raises:
            StateError: there is no room.
        """
        with self._lock:
            if not self._looked or time.monotonic() - self._looked > _LOOK_S or not self._kept.is_dir():
                self._look()
            kept, files, folders = self._kept, self._files, self._folders
        made = spool.new_folder()
        try:
            for name in folders:
                (made / name).mkdir(mode=0o700)
            for name in files:
                os.link(f"{kept}/{name}", f"{made}/{name}")
        except OSError:  # a file system without links, or there are too many of one file: then a copy of its own
            shutil.rmtree(made)
            return spool.write(spool.Sources(bundle(paths.train_dir())))
        return made

    def _look(self) -> None:
        """See to it that there is a copy of the code as it is now."""
        code = bundle(paths.train_dir())
        kept = paths.kept_training(code.digest)
        if not _is_whole(kept, code.files, code.digest):
            made = spool.write(spool.Sources(code))
            if kept.exists():
                shutil.rmtree(kept)
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.rename(kept)
        self._kept = kept
        self._files = (paths.SPOOL_MANIFEST, *(f"{spool.CODE}/{name}" for name in code.files))
        parents = {str(parent) for name in self._files for parent in Path(name).parents if str(parent) != "."}
        self._folders = tuple(sorted(parents))
        self._looked = time.monotonic()


def _is_whole(kept: Path, files: tuple[str, ...], digest: str) -> bool:
    root = kept / spool.CODE
    if not (kept / paths.SPOOL_MANIFEST).is_file():
        return False
    try:
        return bundle_of(root, [(name, root / name) for name in files]).digest == digest
    except UgroError:
        return False
