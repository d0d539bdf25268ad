"""`ugro tensorboard`: the real TensorBoard over the event files of jobs, on this machine's loopback alone."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from ugro_py import run_guard
from ugro_py.display import counted
from ugro_py.errors import NotFoundError, StateError, UgroError, UsageError
from ugro_py.paths import JobPaths

if TYPE_CHECKING:
    from ugro_py.api.client import Client
    from ugro_py.state import Store

HOST = "127.0.0.1"
PORT = 6006
"""TensorBoard's own port; where it is taken and none was asked for, the next free one."""
_PORTS = 50
_MARK = "tfevents"  # TensorBoard looks at files with this in their name, and at no other
_START_S = 120.0
_LOOK_S = 5.0
# Of jobs of a store that is not the caller's the event files are fetched; not of all that ever were.
_MOST_FETCHED = 50


class Source(Protocol):
    """Where event files come from."""

    def names(self) -> list[str]:
        """Return the jobs there are, newest first."""
        ...

    def bring(self, job: str, target: Path) -> bool:
        """Bring the event files of a job to `target`, those that came since too; return whether there are any."""
        ...


class StoreSource:
    """The caller's own central store: a link to each job's folder, so that TensorBoard sees what comes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self) -> list[str]:
        """See `Source`."""
        return [job.name for job in self._store.jobs()]

    def bring(self, job: str, target: Path) -> bool:
        """See `Source`."""
        folder = JobPaths(job).tensorboard
        if not target.is_symlink():
            if not any(_MARK in path.name for path in folder.rglob("*")):
                return False
            target.symlink_to(folder.resolve(), target_is_directory=True)
        return True


class AgentSource:
    """A store that is the agent's: copies of the event files."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def names(self) -> list[str]:
        """See `Source`."""
        return [str(job["job"]) for job in self._client.get("/v1/jobs", all=True)][:_MOST_FETCHED]

    def bring(self, job: str, target: Path) -> bool:
        """See `Source`."""
        from ugro_py.api.client import job_path
        from ugro_py.api.fetch import inside

        top = f"{JobPaths(job).tensorboard.name}/"
        for entry in self._client.get(job_path(job, "files")):
            name = inside(job, entry["path"])
            to = target / name.removeprefix(top)
            if not name.startswith(top) or _MARK not in to.name:
                continue
            if to.exists() and to.stat().st_size == entry["size"]:
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            with part.open("wb") as writer:
                for block in self._client.read(job_path(job, "files", quote(os.fsencode(entry["path"])))):
                    writer.write(block)
            part.replace(to)
        return target.exists()


def serve(source: Source, jobs: Sequence[str], port: int | None, say: Callable[[str], None]) -> None:
    """Run TensorBoard until the user interrupts.

    Args:
        source: of the event files.
        jobs: names; none means all jobs that have event files, those that come later too.
        port: of the loopback; None for `PORT` or the next one that is free.
        say: takes a line of output.

    Raises:
        UsageError: TensorBoard is not installed, or the port is taken.
        NotFoundError: no job of these has event files.
        StateError: TensorBoard ended by itself.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError("ugro tensorboard", "TensorBoard is not installed here", "run `pip install 'ugro[train]'`")
    chosen = _free_port(port)
    with tempfile.TemporaryDirectory(prefix="ugro-tensorboard-") as name:
        folder = Path(name)
        shown = folder / "jobs"
        shown.mkdir()
        found = _update(source, jobs, shown)
        if not found:
            which = "any job" if not jobs else f"job {jobs[0]}" if len(jobs) == 1 else f"jobs {', '.join(jobs)}"
            came_back = "there are none; they come to the central store when an attempt has ended"
            raise NotFoundError(f"event files of {which}", came_back, "see `ugro ps --all`")
        for job in jobs:
            if job not in found:
                say(f"job {job} has no event files yet; they come when its attempt has ended")
        process = _start(folder, shown, chosen)
        try:
            _until_ready(process, folder, chosen)
            say(f"TensorBoard of {counted(len(found), 'job')}: http://{HOST}:{chosen}/   (Ctrl-C ends it)")
            while process.poll() is None:
                try:
                    process.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    with contextlib.suppress(UgroError):  # a store that is away for a moment ends nothing here
                        _update(source, jobs, shown)
            raise StateError("TensorBoard", f"ended with {process.returncode}: {_last_line(folder)}", "start it again")
        except KeyboardInterrupt:
            return
        finally:
            process.terminate()
            process.wait()


def _update(source: Source, jobs: Sequence[str], shown: Path) -> list[str]:
    """Bring what there is, and return the jobs that have event files."""
    return [job for job in jobs or source.names() if source.bring(job, shown / job)]


def _free_port(port: int | None) -> int:
    """Return the port that was asked for, or the next free one from `PORT` on.

    Raises:
        UsageError: it is taken.
    """
    for candidate in (port,) if port is not None else range(PORT, PORT + _PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
                return int(probe.getsockname()[1])
            except OSError as error:
                said = error.strerror or str(error)
    raise UsageError(f"TensorBoard on port {port or PORT}", said, "choose another one with --port")


def _start(folder: Path, shown: Path, port: int) -> subprocess.Popen[bytes]:
    # The guard ends TensorBoard, and the server of data that it starts, also when this process is killed.
    guard = [sys.executable, "-I", "-S", run_guard.__file__, str(os.getpid()), str(folder)]
    # -P: modules are those that are installed, never those of the folder it was started in.
    board = [
        sys.executable,
        "-P",
        "-m",
        "tensorboard.main",
        "--logdir",
        str(shown),
        "--host",
        HOST,
        "--port",
        str(port),
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*guard, *board, "--reload_interval", "5", "--window_title", "UGRO"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _until_ready(process: subprocess.Popen[bytes], folder: Path, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/data/environment")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
        finally:
            connection.close()
    raise StateError("start TensorBoard", _last_line(folder), "run `python -m tensorboard.main --logdir …` to see more")


def _last_line(folder: Path) -> str:
    said = (folder / "log").read_text(errors="replace").strip().splitlines()
    return said[-1] if said else "it says nothing"
