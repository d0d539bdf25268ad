"""`ugro logs`: from the central copies, whole or as they grow, safe on a terminal and byte for byte in a file."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import logs
from ugro_py.cli import cli
from ugro_py.errors import NotFoundError

PROGRAM = [sys.executable, "-c", "from ugro_py.cli import main; main()", "logs", JOB]


@pytest.fixture
def running(job_store: JobStore) -> JobStore:  # noqa: F811
    job_store.attempt()
    return job_store


def write(job: JobStore, rank: int, text: bytes) -> None:
    with job.paths.rank_log(rank).open("ab") as stream:
        stream.write(text)


def shown(*arguments: str) -> bytes:
    result = CliRunner().invoke(cli, ["logs", JOB, *arguments], standalone_mode=False, catch_exceptions=False)
    return result.stdout_bytes


def test_one_rank_byte_for_byte(running: JobStore) -> None:
    text = b"\xff\x00\x1b[2Jone\r\ntwo\rthree\nno end"
    write(running, 1, text)
    assert shown("--rank", "1") == text


def test_several_ranks_say_whose_line_it_is(running: JobStore) -> None:
    write(running, 0, b"a\nb\n")
    write(running, 2, b"c\n")
    assert shown() == b"[rank 0] a\n[rank 0] b\n[rank 2] c\n"
    assert shown("--rank", "all", "--tail", "1") == b"[rank 0] b\n[rank 2] c\n"
    assert shown("--rank", "1") == b"", "a rank that has written nothing yet"


def test_lines_as_json(running: JobStore) -> None:
    write(running, 0, b"a\xff\r\n\x1b[1mb\n")
    lines = [json.loads(line) for line in shown("--json").splitlines()]
    assert lines == [{"rank": 0, "line": "a\ufffd"}, {"rank": 0, "line": "\x1b[1mb"}]


def test_a_folder_that_is_gone_is_said(running: JobStore) -> None:
    running.end()
    shutil.rmtree(running.paths.root)
    for words in ((), ("--rank", "0"), ("-f",), ("--json",)):
        with pytest.raises(NotFoundError, match=r"there is no folder .* any more"):
            shown(*words)


def test_ranks_that_do_not_exist(running: JobStore) -> None:
    with pytest.raises(NotFoundError, match="rank 3 of job first_test: does not exist; it has the ranks 0, 1, 2"):
        shown("--rank", "3")
    write(running, 7, b"of an earlier attempt on more GPUs\n")
    assert b"earlier" in shown("--rank", "7")
    with pytest.raises(NotFoundError, match="nope"):
        CliRunner().invoke(cli, ["logs", "nope"], standalone_mode=False, catch_exceptions=False)
    for rank in ("-1", "x", "1.5", "", "99999999999"):
        assert CliRunner().invoke(cli, ["logs", JOB, "--rank", rank]).exit_code == 2


def test_the_log_of_an_earlier_attempt(running: JobStore) -> None:
    write(running, 0, b"first\n")
    write(running, 1, b"first of 1\nno end")
    running.paths.attempt(1).mkdir(parents=True)
    running.store.set_attempt(JOB, 1, status="failed")
    running.store.release(JOB)
    assert shown("--attempt", "1", "--rank", "0") == b"first\n", "the newest: where it grows"
    running.paths.keep_logs(1)  # it is to be tried again
    assert shown("--attempt", "1", "--rank", "0") == b"first\n"
    assert running.attempt() == 2
    write(running, 0, b"second\n")
    assert shown() == shown("--attempt", "2") == b"[rank 0] second\n"
    assert shown("--attempt", "1") == b"[rank 0] first\n[rank 1] first of 1\n[rank 1] no end\n"
    assert shown("--attempt", "1", "--rank", "1", "--tail", "1") == b"no end\n"
    assert shown("--attempt", "1", "--follow", "--rank", "1") == b"first of 1\nno end", "it ends, though the job runs"
    assert shown("--attempt", "1", "--rank", "2") == b"", "it was there, and printed nothing"
    for attempt, rank, wrong in (
        ("3", "all", "attempt 3 of job 'first_test': there is none"),
        ("1", "7", "rank 7 of job first_test: does not exist; it has the ranks 0, 1, 2"),
    ):
        with pytest.raises(NotFoundError, match=wrong):
            shown("--attempt", attempt, "--rank", rank)
    shutil.rmtree(running.paths.attempt(1))
    with pytest.raises(NotFoundError, match="logs of attempt 1 of job first_test: it kept none; see `ugro status"):
        shown("--attempt", "1")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60).map(lambda b: b.replace(b"\x00", b"\n")), st.integers(0, 12), st.integers(1, 9))
def test_tail_is_the_last_lines(tmp_path_factory: pytest.TempPathFactory, text: bytes, count: int, block: int) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    path.write_bytes(text)
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as stream:
        patch.setattr(logs, "_BLOCK", block)
        stream.seek(logs._tail_offset(stream, count))
        lines = text.split(b"\n") if not text.endswith(b"\n") else text[:-1].split(b"\n")
        expected = lines[-count:] if count and text else []
        assert stream.read().rstrip(b"\n") == b"\n".join(expected).rstrip(b"\n")


class Follower:
    """`ugro logs -f` in a process of its own, whose output is read as it comes."""

    def __init__(self, *arguments: str, terminal: bool = False) -> None:
        self.got = b""
        if terminal:
            ours, theirs = pty.openpty()
            self.process = subprocess.Popen([*PROGRAM, "-f", *arguments], stdout=theirs, stdin=subprocess.DEVNULL)
            os.close(theirs)
        else:
            ours, theirs = os.pipe()
            self.process = subprocess.Popen([*PROGRAM, "-f", *arguments], stdout=theirs, stdin=subprocess.DEVNULL)
            os.close(theirs)
        self._from = ours
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._from, 65536)
            except OSError:  # a terminal whose other side was closed
                return
            if not data:
                return
            self.got += data

    def wait_for(self, text: bytes, timeout_s: float = 60.0) -> float:
        """Return how long it took until `text` was there."""
        start = time.monotonic()
        while text not in self.got:
            assert time.monotonic() - start < timeout_s, self.got
            assert self.process.poll() is None or text in self.got, self.got
            time.sleep(0.01)
        return time.monotonic() - start

    def end(self) -> bytes:
        assert self.process.wait(60) == 0
        self._thread.join(60)
        return self.got


def test_following_ends_with_the_job(running: JobStore) -> None:
    write(running, 0, b"old 1\nold 2\n")
    follower = Follower("--tail", "1")
    follower.wait_for(b"old 2\n")
    write(running, 1, b"new\n")
    follower.wait_for(b"[rank 1] new\n")
    write(running, 1, b"half a ")
    time.sleep(0.3)
    assert b"half" not in follower.got
    write(running, 1, b"line\n")
    follower.wait_for(b"[rank 1] half a line\n")
    write(running, 0, b"last\nwithout an end")
    running.end()
    got = follower.end()
    assert got.endswith(b"[rank 0] last\n[rank 0] without an end\n")
    assert b"old 1" not in got


def test_following_a_job_that_has_no_ranks_yet(job_store: JobStore) -> None:  # noqa: F811
    follower = Follower()
    time.sleep(0.5)
    job_store.attempt()
    write(job_store, 2, b"hello\n")
    follower.wait_for(b"hello\n")
    job_store.end("failed", "rank 2 failed", 1)
    assert follower.end() == b"[rank 2] hello\n"


def test_following_a_progress_bar(running: JobStore) -> None:
    """A bar never ends its line; its newest state is shown about once a second."""
    write(running, 0, b"start\n")
    follower = Follower("--rank", "0")
    follower.wait_for(b"start\n")
    began = time.monotonic()
    for percent in range(15):
        write(running, 0, b"\r%d%%" % percent)
        time.sleep(0.1)
    running.end()
    got = follower.end()
    # 15 states were written; the first line, one state a second, and the last state are shown.
    assert 2 <= got.count(b"\n") <= 3 + time.monotonic() - began
    assert got.endswith(b"14%\n")


def test_following_a_log_that_is_written_anew(running: JobStore) -> None:
    write(running, 0, b"a long first line\n")
    follower = Follower("--rank", "0")
    follower.wait_for(b"first line\n")
    running.paths.rank_log(0).write_bytes(b"second\n")
    follower.wait_for(b"second\n")
    running.end()
    follower.end()


def test_a_log_cannot_drive_the_terminal(running: JobStore) -> None:
    write(running, 0, b"\x1b]0;owned\x07\x1b[31mred\x1b[0m\x1b[2J\x1b[6n 10%\r 20%\n\xff\xfe\n")
    follower = Follower("--rank", "0", terminal=True)
    follower.wait_for(b"20%")
    running.end()
    got = follower.end().replace(b"\r\n", b"\n")
    assert got == " 20%\n\ufffd\ufffd\n".encode()


def test_colours_stay_on_a_terminal(running: JobStore) -> None:
    write(running, 0, b"\x1b[31mred\x1b[0m\x1b[2J\n")
    follower = Follower("--rank", "0", terminal=True)
    follower.wait_for(b"red")
    running.end()
    assert follower.end().replace(b"\r\n", b"\n") == b"\x1b[31mred\x1b[0m\x1b[0m\n"


def test_a_reader_that_has_enough(running: JobStore) -> None:
    write(running, 0, b"line\n" * 200_000)
    write(running, 1, b"line\n")
    process = subprocess.Popen(PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0


def test_a_line_of_many_megabytes(tmp_path: Path, running: JobStore) -> None:
    write(running, 0, b"x" * 30_000_000 + b"\nend\n")
    write(running, 1, b"y\n")
    start = time.monotonic()
    lines = shown().splitlines()
    assert time.monotonic() - start < 30
    assert sum(len(line) - len(b"[rank 0] ") for line in lines[:-2]) == 30_000_000
    assert lines[-2:] == [b"[rank 0] end", b"[rank 1] y"]
