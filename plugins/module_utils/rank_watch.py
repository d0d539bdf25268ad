# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""One rank as its supervisor sees it: its process, its end, and the metrics it writes or prints."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Any, Dict, Iterator, List, Optional

from . import processes
from .metric_lines import MetricParser

# Read at most this much of a file in one tick, so that a rank that floods its log cannot stall the supervisor.
_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 16


def signal_name(number: int) -> str:
    """Return a signal's name; most real-time signals have none and are told by their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "SIG%d" % number


def disk_is_full(path: str) -> bool:
    """Say whether hardly anything fits on the file system any more: then a log does not tell why a rank failed."""
    try:
        disk = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 1 << 20


class LineReader:
    """Reads the whole lines that were added to a file, which may not exist yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.offset = 0
        self._rest = b""

    def lines(self, last: bool = False) -> Iterator[str]:
        """Yield new lines; with `last` everything to the end, an unfinished last line included."""
        while True:
            try:
                with open(self._path, "rb") as file:
                    file.seek(self.offset)
                    data = file.read(_CHUNK)
            except FileNotFoundError:
                return
            self.offset += len(data)
            # A carriage return ends a line too: progress bars use nothing else.
            *whole, self._rest = (self._rest + data.replace(b"\r", b"\n")).split(b"\n")
            for line in whole:
                yield line[:_LONGEST_LINE].decode("utf-8", "replace")
            self._rest = self._rest[:_LONGEST_LINE]
            if not last or not data:
                break
        if last and self._rest:
            yield self._rest.decode("utf-8", "replace")
            self._rest = b""


class RankWatch:
    """Follows one rank of the gang.

    Args:
        attempt_dir: the attempt's folder on this node.
        rank: the global rank.
        gpu: UUID of its GPU or CPU slot.
        sampler: gives the newest GPU reading, to complete metrics of scripts that only print.
    """

    def __init__(self, attempt_dir: str, rank: int, gpu: str, sampler: Any) -> None:
        self.rank = rank
        self.pid: Optional[int] = None
        self.pidfd: Optional[int] = None
        self.started_at = 0.0
        self.ended_at = 0.0
        self.ended = False
        self.exit_code: Optional[int] = None
        self._ticks = 0
        self.gpu = gpu
        self._sampler = sampler
        self._pid_file = os.path.join(attempt_dir, "pids", str(rank))
        self._log = os.path.join(attempt_dir, "logs", "rank_%d.log" % rank)
        self._torchrun_log = os.path.join(attempt_dir, "logs", "torchrun.log")
        self._log_lines = LineReader(self._log)
        self._metric_lines = LineReader(os.path.join(attempt_dir, "metrics", "rank_%d.jsonl" % rank))
        self._parser = MetricParser(rank)
        self._writes_metrics = False

    @property
    def written(self) -> int:
        """How many bytes the rank has logged and told as metrics, as far as they were read."""
        return self._log_lines.offset + self._metric_lines.offset

    def find_pid(self) -> bool:
        """Look for the pid that rank_exec.py leaves; True when it is there."""
        try:
            with open(self._pid_file, encoding="ascii") as file:
                self.pid = int(file.read())
        except (FileNotFoundError, ValueError):
            return False
        self.started_at = round(os.stat(self._pid_file).st_mtime, 4)
        self._ticks = processes.start_ticks(self.pid)
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):
            self.pidfd = None  # gone already, or a kernel without pidfd_open: the tick finds the end
        return True

    def check_end(self, torchrun_gone: bool = False) -> bool:
        """Say whether the rank ended and its exit code is known (or never will be: `torchrun_gone`).

        torchrun reaps its children every 0.1 s; the wait status is read from the zombie before. When torchrun was
        quicker, its own log names a rank that failed; a rank that it does not name by its own end ended well.
        """
        if self.pid is None:
            return False  # it has not started
        if processes.is_alive(self.pid, self._ticks):
            return False
        # When it was seen gone, not when its exit code came: which rank failed first is told by these times.
        self.ended_at = self.ended_at or round(time.time(), 4)
        if self.exit_code is None:
            self.exit_code = processes.zombie_exit(self.pid)
        if self.exit_code is None:
            self.exit_code = self._code_in_torchrun_log()
        if self.exit_code is None and not torchrun_gone:
            return False
        self.ended = True
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        return True

    def _code_in_torchrun_log(self) -> Optional[int]:
        """Return the exit code that torchrun reported for this rank's process, if it did."""
        try:
            with open(self._torchrun_log, "rb") as file:
                text = file.read()
        except FileNotFoundError:
            return None
        found = re.search(rb"exitcode: (-?\d+)\) local_rank: \d+ \(pid: %d\)" % self.pid, text)
        return int(found.group(1)) if found else None

    def end_report(self) -> Dict[str, Any]:
        """Return what the event ``rank_exited`` says."""
        code = self.exit_code
        lines = self.last_lines()
        if code and disk_is_full(self._log):
            lines.append("[ugro] the file system of %s is full" % os.path.dirname(self._log))
        return {
            "t": self.ended_at,
            "rank": self.rank,
            "exit_code": code,
            "signal": signal_name(-code) if code is not None and code < 0 else None,
            "last_lines": lines,
        }

    def last_lines(self, count: int = 20) -> List[str]:
        """Return the end of the rank's log, at most 4 KB."""
        try:
            with open(self._log, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 4096))
                return file.read().decode("utf-8", "replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    def metrics(self, last: bool = False) -> Iterator[Dict[str, Any]]:
        """Yield the metrics that came since the last call: the script's own file, else what its log prints."""
        for line in self._metric_lines.lines(last):
            values = self._parser.feed_metrics(line)
            if values is not None:
                self._writes_metrics = True
                yield self._complete(values)
        for line in self._log_lines.lines(last):
            values = None if self._writes_metrics else self._parser.feed_log(line)
            if values is not None:
                yield self._complete(values)

    def _complete(self, values: Dict[str, Any]) -> Dict[str, Any]:
        """Fill in the seed's fields that the script did not give."""
        line = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "rank": self.rank,
            "step": None,
            "gpu_util": None,
            "gpu_mem_used_gb": None,
            "training_loss": None,
            "throughput_tokens_sec": None,
            "gradient_norm": None,
            "learning_rate": None,
        }
        gpu = self._sampler.gpu(self.gpu)
        if gpu:
            line["gpu_util"], line["gpu_mem_used_gb"] = gpu["util"], gpu["mem_used_gb"]
        line.update({key: value for key, value in values.items() if value is not None})
        line["rank"] = self.rank
        for reserved in ("t", "kind", "job_id", "lost_before"):
            line.pop(reserved, None)
        return line
