# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Xid errors out of the kernel log of this boot: from /dev/kmsg, else from journald, where this user may read one."""

from __future__ import annotations

import errno
import json
import os
import time

from . import programs, xid

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_KMSG = "/dev/kmsg"
_RECORD = 8192  # the kernel gives one record a read, and none is longer
_KEPT = 200
_JOURNAL_EVERY_S = 60.0


class KernelLog:
    """Reads what is new each time; what was read before is kept, as far as it is an Xid."""

    def __init__(self) -> None:
        self._file: Optional[int] = None
        self._found: List[Dict[str, Any]] = []
        self._error: Optional[str] = None
        self._journal_at = float("-inf")
        self._opened = False

    def read(self, deadline_s: float = 3.0) -> Dict[str, Any]:
        """Return ``{"xids": [{at, code, pci, text}], "error": None or why nothing can be read}``; at is Unix time."""
        if not self._opened:
            self._open()
        if self._file is not None:
            self._read_kmsg(self._file)
        elif time.monotonic() - self._journal_at >= _JOURNAL_EVERY_S:
            self._journal_at = time.monotonic()
            self._read_journal(deadline_s)
        del self._found[:-_KEPT]
        return {"xids": list(self._found), "error": self._error}

    def _open(self) -> None:
        self._opened = True
        try:
            self._file = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._error = "%s: %s" % (_KMSG, error.strerror)

    def _read_kmsg(self, file: int) -> None:
        # Records carry microseconds of the monotonic clock.
        base = time.time() - time.monotonic()
        while True:
            try:
                data = os.read(file, _RECORD)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    continue  # records were overwritten before they were read: go on with the oldest there is
                if error.errno != errno.EAGAIN:
                    self._error = "%s: %s" % (_KMSG, error.strerror)
                return
            if not data:
                return
            if b"NVRM: Xid" not in data:
                continue
            for line in data.decode("utf-8", "replace").splitlines():
                found = xid.parse(line)
                if found:
                    self._found.append(dict(found, at=round(base + _stamp(line), 3)))

    def _read_journal(self, deadline_s: float) -> None:
        import subprocess

        program = programs.which("journalctl")
        if program is None:
            return
        argv = [program, "--dmesg", "--boot", "--grep=NVRM: Xid", "--output=json", "--no-pager", "--quiet"]
        try:
            done = subprocess.run(
                [*argv, "--lines=%d" % _KEPT],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=deadline_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._error = "journalctl: %s" % error
            return
        # Without a match the exit code is 1 and nothing is said; who may read nothing is told so.
        self._error = done.stderr.decode(errors="replace").strip().partition("\n")[0] or None
        self._found = []
        for line in done.stdout.splitlines():
            try:
                entry = json.loads(line)
                found = xid.parse(str(entry["MESSAGE"]))
                if found:
                    self._found.append(dict(found, at=int(entry["__REALTIME_TIMESTAMP"]) / 1e6))
            except (ValueError, KeyError, TypeError):
                continue  # a message that is no text


def _stamp(line: str) -> float:
    """Return the seconds since boot in the head of a record ("4,1234,56789012,-;message")."""
    fields = line.partition(";")[0].split(",")
    return int(fields[2]) / 1e6 if len(fields) > 2 and fields[2].isdigit() else time.monotonic()
