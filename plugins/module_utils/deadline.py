# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Run a function that may hang (a sick GPU driver, a dead NFS server, a silent DNS) with a deadline.

A thread would not do: one that hangs in the kernel keeps its process, and with it the SSH channel, from ending.
So the function runs in a forked child which is given up, and killed, when its time is over.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Callable


class DeadlineError(Exception):
    """The function did not answer in time."""


class CallError(Exception):
    """The function raised; the text is ``<type of the exception>: <its text>``."""


class Call:
    """One function call in a child process; several can be under way at once.

    Args:
        function: called without arguments in the child; what it returns must be JSON-able.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._started = time.monotonic()
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._in_child(function, writer)
        os.close(writer)

    def _in_child(self, function: Callable[[], Any], writer: int) -> None:
        try:
            # A child that hangs for ever must not hold the standard streams of an SSH session open.
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            try:
                answer = {"value": function()}
            except Exception as error:  # noqa: BLE001 - whatever it is goes to the parent as text
                answer = {"error": "%s: %s" % (type(error).__name__, error)}
            data = json.dumps(answer).encode()
            while data:
                data = data[os.write(writer, data) :]
        finally:
            os._exit(0)

    def result(self, deadline_s: float) -> Any:
        """Return what the function returned, at most `deadline_s` seconds after the start of the call.

        Raises:
            DeadlineError: no answer in time; the child is killed.
            CallError: the function raised, or its process was killed.
        """
        data = b""
        try:
            while True:
                left = self._started + deadline_s - time.monotonic()
                if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                    os.kill(self._pid, signal.SIGKILL)
                    raise DeadlineError("no answer within %g s" % deadline_s)
                chunk = os.read(self._reader, 65536)
                if not chunk:
                    break
                data += chunk
        finally:
            os.close(self._reader)
            self._reap()
        if not data:
            raise CallError("the reading process died")
        answer = json.loads(data.decode())
        if "error" in answer:
            raise CallError(answer["error"])
        return answer["value"]

    def _reap(self) -> None:
        """Wait a moment for the child; one that is stuck in the kernel is left to init."""
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                if os.waitpid(self._pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return  # somebody else's wait() took it
            time.sleep(0.0002)
