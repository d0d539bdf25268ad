"""Read every node once, for the verbs that do nothing else: `check`, `health`, `nodes add`.

The session program is the same as in transport.py. It is driven by a thread for each node, without asyncio: importing
that takes about as long as a node takes to answer.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ugro_py import session_lines, ssh
from ugro_py.cluster import Node
from ugro_py.errors import NodeError

OPEN_TIMEOUT_S = 15.0
REPORT_TIMEOUT_S = 15.0
Report = dict[str, Any]


def report_all(
    nodes: Sequence[Node],
    meanwhile: Callable[[], object] = lambda: None,
    *,
    fresh: bool = False,
    within_s: float | None = None,
) -> dict[str, Report | NodeError]:
    """Read every node at once, none waiting for another. One that cannot be read has its error for a report.

    Args:
        nodes: which ones.
        meanwhile: is called while they answer, to import what judges the reports, say.
        fresh: make new connections: one that is still open shows no host key that has changed since.
        within_s: wait no longer than this, in seconds; a node that has not answered by then has a `LateError`.
    """
    until = None if within_s is None else time.monotonic() + within_s
    late = {}
    readings = [_Reading(node, fresh) for node in nodes]
    try:
        for reading in readings:
            reading.start()
        meanwhile()
        for reading in readings:
            reading.join(None if until is None else max(0.0, until - time.monotonic()))
            if reading.is_alive():
                late[reading.node.name] = LateError(f"{reading.node.name}: read it", f"no answer in {within_s:g} s")
    finally:
        for reading in readings:  # all have ended, unless the user interrupts or some are late
            reading.end()
    return {reading.node.name: late.get(reading.node.name, reading.result) for reading in readings}


class LateError(NodeError):
    """A node did not answer as soon as the caller wanted: it may be slow, or away."""


class _Reading(threading.Thread):
    """One node's reading; `result` is the report of `session.do_report`, with `clock_offset_s` and `latency_ms`."""

    def __init__(self, node: Node, fresh: bool) -> None:
        super().__init__(daemon=True)
        self.node = node
        # What stands here if the reading itself breaks, which only an error in UGRO can do.
        self.result: Report | NodeError = NodeError(f"{node.name}: read it", "the reading broke off", "report this")
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._fresh = fresh

    def run(self) -> None:
        try:
            self.result = self._read(fresh=self._fresh)
        except NodeError as error:
            self.result = error
            if "control master" in error.came_back:  # ssh's own race on a busy machine, see transport.Session.open
                try:
                    self.result = self._read(fresh=True)
                except NodeError as again:
                    self.result = again

    def end(self) -> None:
        """End the session if it still runs."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _read(self, fresh: bool) -> Report:
        try:
            self._process = process = subprocess.Popen(
                ssh.session_argv(self.node, fresh=fresh),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in the terminal is for `ugro`, which decides what it means
            )
        except OSError as error:
            raise NodeError(f"{self.node.name}: start a session", str(error), "see `ugro check`") from error
        assert process.stdin and process.stdout and process.stderr
        try:
            with _Deadline(process, OPEN_TIMEOUT_S) as deadline:
                try:
                    hello, before, after = self._open(process)
                except _ClosedError:
                    if deadline.passed:
                        raise ssh.no_answer(self.node, OPEN_TIMEOUT_S) from None
                    raise self._why_closed(process) from None
            with _Deadline(process, REPORT_TIMEOUT_S) as deadline:
                try:
                    report = self._call(
                        process, "report", address=self.node.address, train_python=self.node.train_python
                    )
                except _ClosedError:
                    said = f"no answer in {REPORT_TIMEOUT_S:g} s" if deadline.passed else "the connection was lost"
                    raise NodeError(f"{self.node.name}: report", said, "see `ugro check`") from None
        finally:
            self.end()
            for pipe in (process.stdin, process.stdout, process.stderr):
                try:
                    pipe.close()
                except OSError:
                    pass  # what was not written yet has no reader any more
        report["latency_ms"], report["clock_offset_s"] = session_lines.round_trip(hello, before, after)
        return report

    def _open(self, process: subprocess.Popen[bytes]) -> tuple[Report, float, float]:
        """Wait until the program is there, send it to a node that does not have it, and ask for the time."""
        assert process.stdout
        while (said := session_lines.greeting(line := process.stdout.readline())) != "ready":
            if not line:
                raise _ClosedError
            if said == "send":
                self._send(process, session_lines.code())
        before = time.time()
        hello = self._call(process, "hello")
        return hello, before, time.time()

    def _call(self, process: subprocess.Popen[bytes], method: str, **params: Any) -> Report:
        assert process.stdout
        self._number += 1
        self._send(process, session_lines.request(self._number, method, params))
        while (line := process.stdout.readline()).endswith(b"\n"):
            message = session_lines.message(line)
            if message is None or message.get("id") != self._number:
                continue  # a heartbeat
            if "error" in message:
                raise NodeError(f"{self.node.name}: {method}", message["error"])
            result: Report = message["result"]
            return result
        raise _ClosedError

    def _send(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin
        try:
            process.stdin.write(data)
            process.stdin.flush()
        except OSError as error:
            raise _ClosedError from error

    def _why_closed(self, process: subprocess.Popen[bytes]) -> NodeError:
        assert process.stderr
        code = process.wait()
        # Not to the end: a multiplexing master in the background keeps its end of the pipe open.
        os.set_blocking(process.stderr.fileno(), False)
        stderr = process.stderr.read(1 << 16) or b""
        return ssh.why_closed(self.node, code, stderr.decode(errors="replace"))


class _ClosedError(Exception):
    """The session ended before it had answered."""


class _Deadline:
    """Kills a process that is not done in time, so that whoever reads from it goes on."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.passed = False
        self._process = process
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True

    def _kill(self) -> None:
        self.passed = True
        self._process.kill()

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()
