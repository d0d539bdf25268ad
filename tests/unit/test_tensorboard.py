# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro tensorboard`: the real TensorBoard shows what lies in the central store, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import UGRO, end_with_parent, finish, wait_until
from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py.api.client import Client
from ugro_py.errors import StateError
from ugro_py.paths import JobPaths
from ugro_py.tensorboard import AgentSource

pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")


def write_events(folder: Path, **losses: float) -> None:
    """Write an event file as training does."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for name, value in losses.items():
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        writer.add_event(Event(step=1, wall_time=time.time(), summary=summary))
    writer.close()


class Board:
    """`ugro tensorboard` as a person starts it, with a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.env = {**os.environ, "TMPDIR": str(self.temporary), "HOME": str(folder)}
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(UGRO), "tensorboard", *map(str, arguments)], env=self.env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=end_with_parent,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def url(self, process: subprocess.Popen[str]) -> tuple[str, list[str]]:
        """Wait until it says where it is; returns that, and the lines before."""
        assert process.stdout and process.stderr
        before = []
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                return found[0], before
            before.append(line.strip())
        raise AssertionError(process.stderr.read())

    def left(self) -> list[str]:
        """Return the processes and files that still are."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.temporary) in words:
                found.append(words.decode(errors="replace"))
        return found + [str(path) for path in self.temporary.glob("ugro-*")]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
    wait_until(lambda: not made.left(), "TensorBoard has ended")


def get(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=60) as response:
        return json.loads(response.read())


def test_it_shows_the_jobs_also_those_that_come_later(job_store: JobStore, board: Board) -> None:  # noqa: F811
    store = job_store.store
    store.create_job("other", "ob", {})
    store.create_job("late", "ob", {})
    write_events(job_store.paths.tensorboard, loss=2.5)
    write_events(JobPaths("other").tensorboard / "gpu2", loss=1.5)
    process = board.start()
    url, said = board.url(process)
    assert said == []
    wait_until(lambda: set(get(url, "data/runs")) == {JOB, "other/gpu2"}, "both jobs are shown")
    tags = get(url, "data/plugin/scalars/tags")
    assert set(tags[JOB]) == {"loss"}
    points = get(url, f"data/plugin/scalars/scalars?run={JOB}&tag=loss")
    assert [point[1:] for point in points] == [[1, 2.5]]
    write_events(JobPaths("late").tensorboard, loss=3.5)
    wait_until(lambda: "late" in get(url, "data/runs"), "the job that came later is shown")

    os.killpg(process.pid, signal.SIGINT)
    finish(process, 0)
    wait_until(lambda: not board.left(), "TensorBoard, the server of data that it started and its folder are gone")
    assert next(job_store.paths.tensorboard.iterdir()).is_file()  # only the link to it is gone


def test_it_ends_with_ugro_however_that_ends(job_store: JobStore, board: Board) -> None:  # noqa: F811
    write_events(job_store.paths.tensorboard, loss=2.5)
    job_store.store.create_job("empty", "ob", {})
    process = board.start(JOB, "empty")
    _, said = board.url(process)
    assert said == ["job empty has no event files yet; they come when its attempt has ended"]
    assert board.left()
    process.kill()
    wait_until(lambda: not board.left(), "TensorBoard and its folder are gone")


def test_where_there_is_nothing_to_show(job_store: JobStore, board: Board) -> None:  # noqa: F811
    (job_store.paths.tensorboard / "notes.txt").write_text("no events\n")
    said = finish(board.start(JOB), 8).stderr
    assert said.startswith(f"ugro: event files of job {JOB}: there are none; "), said
    assert "any job" in finish(board.start(), 8).stderr
    assert "there is none" in finish(board.start("nope"), 8).stderr


def test_a_port_that_is_taken(job_store: JobStore, board: Board) -> None:  # noqa: F811
    write_events(job_store.paths.tensorboard, loss=2.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = finish(board.start("--port", port), 2).stderr
    assert f"TensorBoard on port {port}: Address already in use; choose another one" in said, said


def test_without_the_package(job_store: JobStore) -> None:  # noqa: F811
    write_events(job_store.paths.tensorboard, loss=2.5)
    # As Python tells of a package that is not there.
    code = "import sys; sys.modules['tensorboard'] = None\nfrom ugro_py.cli import main; main(['tensorboard'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "TensorBoard is not installed here; run `pip install 'ugro[train]'`" in done.stderr


def test_from_the_store_of_an_agent(start: Serve, tmp_path: Path) -> None:  # noqa: F811
    served = start()
    served.agent.store.create_job("theirs", "ann", {})
    served.agent.store.create_job("bare", "ann", {})
    events = JobPaths("theirs").tensorboard / "gpu2"
    write_events(events, loss=2.5)
    (events / "notes.txt").write_text("not for TensorBoard")
    source = AgentSource(Client(served.path))
    assert source.names() == ["bare", "theirs"]
    shown = tmp_path / "shown"
    shown.mkdir()
    assert not source.bring("bare", shown / "bare")
    assert source.bring("theirs", shown / "theirs")
    (original,) = (path for path in events.iterdir() if "tfevents" in path.name)
    copy = shown / "theirs" / "gpu2" / original.name
    assert copy.read_bytes() == original.read_bytes()
    assert [path for path in shown.rglob("*") if path.is_file()] == [copy]
    with original.open("ab") as file:
        file.write(b"more")
    assert source.bring("theirs", shown / "theirs")
    assert copy.read_bytes() == original.read_bytes()


def test_names_of_files_lead_nowhere_else(tmp_path: Path) -> None:
    class Hostile(Client):
        """An agent of somebody else may say anything."""

        def __init__(self) -> None:
            pass

        def get(self, path: str, **query: Any) -> Any:
            return [{"path": "tensorboard/../../../tfevents", "size": 3}]

        def read(self, path: str, **query: Any) -> Iterator[bytes]:
            yield b"bad"

    with pytest.raises(StateError, match="leads out"):
        AgentSource(Hostile()).bring("job", tmp_path / "shown" / "job")
