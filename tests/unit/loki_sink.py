# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A receiver of Loki's push API that is as strict as Loki: what it takes is kept as Loki would."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Labels = tuple[tuple[str, str], ...]


class LokiSink:
    """What was pushed. `answers` are the statuses of the next pushes; then all are 204.

    Attributes:
        kept: labels -> [(nanoseconds, line)]; entries that are there twice are kept once, as Loki does.
        faults: what Loki would have refused.
        pushes: sizes of the bodies that were taken.
    """

    def __init__(self) -> None:
        self.kept: dict[Labels, list[tuple[int, str]]] = {}
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.faults: list[str] = []
        self.pushes: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.largest = 1 << 30
        self.hold = threading.Event()
        self.hold.set()
        self.asked = 0
        self.port = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lines(self, job: str, rank: int = 0, attempt: int = 1) -> list[str]:
        with self.lock:
            for labels, values in self.kept.items():
                known = dict(labels)
                if (known["job"], known["rank"], known["attempt"]) == (job, str(rank), str(attempt)):
                    return [line for _, line in values]
        return []

    def take(self, body: bytes) -> None:
        push = json.loads(body)
        assert list(push) == ["streams"], push.keys()
        for stream in push["streams"]:
            assert sorted(stream) == ["stream", "values"]
            labels = tuple(sorted(stream["stream"].items()))
            for name, value in labels:
                if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or not isinstance(value, str) or not value:
                    self.faults.append(f"label {name}={value!r}")
            kept = self.kept.setdefault(labels, [])
            for at, line in stream["values"]:
                self._keep(kept, at, line)

    def _keep(self, kept: list[tuple[int, str]], at: Any, line: Any) -> None:
        if not isinstance(at, str) or not re.fullmatch(r"[0-9]{19}", at):
            self.faults.append(f"time {at!r}")
            return
        if abs(int(at) / 1e9 - time.time()) > 3600:
            self.faults.append(f"too far away: {at}")
        if not isinstance(line, str) or len(line.encode()) > 256 * 1024:
            self.faults.append("line too long, or none")
        if (int(at), line) in kept[-20000:]:
            return
        if kept and int(at) <= kept[-1][0]:
            self.faults.append(f"out of order: {at} after {kept[-1][0]}")
        kept.append((int(at), line))


@contextmanager
def loki_sink() -> Iterator[LokiSink]:
    """A Loki on this machine, in a thread."""
    sink = LokiSink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sink.asked += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sink.hold.wait(60)
            if self.path != "/loki/api/v1/push" or self.headers["Content-Type"] != "application/json":
                sink.faults.append(f"{self.path} {self.headers['Content-Type']}")
            status, extra = sink.answers.pop(0) if sink.answers else (204, {})
            if len(body) > sink.largest:
                status = 413
            with sink.lock:
                sink.headers.append(dict(self.headers))
                if status == 204:
                    try:
                        sink.take(body)
                        sink.pushes.append(len(body))
                    except (ValueError, AssertionError, KeyError) as error:
                        sink.faults.append(repr(error))
            try:
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.end_headers()
                if status != 204:
                    self.wfile.write(b"entry too far behind\x1b[31m")
            except OSError:
                pass  # hung up on: it was too slow

        def log_message(self, *_: object) -> None:
            """Nothing on the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        sink.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            sink.hold.set()
            server.shutdown()
            thread.join()
