# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A program on a real pseudo-terminal, and the screen that a person would see (pyte keeps it)."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pyte

from tests.integration.support import end_with_parent

_PENDING = (1 << 16) + 4096
"""More bytes than a terminal keeps for who reads it. Who always waited until there are no more would never look at the
screen of a program that writes faster than pyte reads, as on a busy machine one does that shows a log as it grows."""


class Terminal:
    """Runs a program as a person's shell does.

    Args:
        command: its words.
        env: its environment; `TERM` is xterm-256color unless it says otherwise.
        columns: width of the terminal.
        rows: height of the terminal.
    """

    def __init__(self, command: Sequence[object], env: Mapping[str, str], columns: int = 80, rows: int = 24) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        # Textual believes these, and xdist sets them, for another terminal than this one.
        env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
        self._slave = slave  # kept, so that its settings can be read when the program has ended
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={"TERM": "xterm-256color", **env}, preexec_fn=_take_terminal,
        )  # fmt: skip

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def settings(self) -> list[object]:
        """The settings of the terminal (echo, line mode, …) now."""
        return termios.tcgetattr(self._slave)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def wait_for(self, *texts: str, timeout_s: float = 60.0, gone: bool = False) -> str:
        """Read until all of these texts are on the screen, or with `gone` until none of them is; returns the screen."""
        deadline = time.monotonic() + timeout_s
        old = len(self.raw) + _PENDING
        while len(self.raw) < old and self._read(0):
            pass
        while any((text in self.text) is gone for text in texts):
            assert time.monotonic() < deadline, f"waited in vain for {texts}; the screen:\n{self.text}"
            ended = self.process.poll() is not None
            assert self._read(0.1) or not ended, f"ended before {texts} came; the screen:\n{self.text}"
        return self.text

    def hang_up(self) -> None:
        """Close the terminal, as when its window or the connection to it is closed."""
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def end(self, timeout_s: float = 30.0) -> int:
        """Read until the program has ended; returns its exit code."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"no end; the screen:\n{self.text}"
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], wait_s)
        if not ready:
            return False
        with suppress(OSError):
            block = os.read(self._master, 1 << 16)
            self.raw += block
            self._stream.feed(block)
            return bool(block)
        return False


def _take_terminal() -> None:
    """In the new process: its terminal is this one, as for what a shell starts."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    end_with_parent()
