# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A receiver of Loki's push API that refuses what Loki 3 does with its defaults, in its order, and keeps what it keeps.

After Loki's pkg/distributor (validator.go, http.go) and pkg/ingester/stream.go."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Labels = tuple[tuple[str, str], ...]
# Loki's defaults (its `limits_config`, and half of `max_chunk_age` of 2 h).
MOST_LABELS, LONGEST_NAME, LONGEST_VALUE, LONGEST_LINE = 15, 1024, 2048, 256 * 1024
OLDEST_S, NEWEST_S, FARTHEST_BEHIND_S = 7 * 86400, 600, 3600


class LokiSink:
    """What was pushed. `answers` are the statuses of the next pushes; then each gets what Loki would say to it.

    Attributes:
        kept: labels -> [(nanoseconds, line)]; entries that are there twice are kept once, as Loki does.
        faults: what was refused, and what Loki would take but ours must not send; a test that wants some clears it.
        pushes: sizes of the bodies that were taken.
        needs: headers without which it says 401.
        burst: with more bytes of lines than this at once it says 429, however often.
    """

    def __init__(self) -> None:
        self.kept: dict[Labels, list[tuple[int, str]]] = {}
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.faults: list[str] = []
        self.pushes: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.needs: dict[str, str] = {}
        self.largest = self.burst = 1 << 30
        self.hold = threading.Event()
        self.hold.set()
        self.asked = 0
        self.port = 0
        self.scheme = "http"
        self.lock = threading.Lock()
        self._seen: set[tuple[int, str, str]] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def lines(self, job: str, rank: int = 0, attempt: int = 1) -> list[str]:
        with self.lock:
            for labels, values in self.kept.items():
                known = dict(labels)
                if (known.get("job"), known.get("rank"), known.get("attempt")) == (job, str(rank), str(attempt)):
                    return [line for _, line in values]
        return []

    def answer(self, path: str, headers: Any, body: bytes) -> tuple[int, str]:
        """Return status and text of what Loki says to a push: what is good of it is kept even where it says 400."""
        if path != "/loki/api/v1/push":
            return 404, "404 page not found"
        if any(headers[name] != value for name, value in self.needs.items()):
            return 401, "no org id"
        if len(body) > self.largest:
            return 413, "request body too large"
        if headers["Content-Type"] != "application/json":
            return 400, f"Content-Type {headers['Content-Type']} not supported"
        try:
            push = json.loads(body.decode())  # UTF-8, or nothing
            streams = [(dict(stream.pop("stream")), list(stream.pop("values"))) for stream in push.pop("streams")]
            assert not push and streams, "error at least one valid stream is required for ingestion"
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            return 400, f"couldn't parse push request: {error!r}"
        if sum(len(line.encode()) for _, values in streams for _, line in values) > self.burst:
            return 429, "Ingestion rate limit exceeded for user lab"
        refused = [said for labels, values in streams for said in self._stream(labels, values)]
        return (400, refused[-1]) if refused else (204, "")

    def _stream(self, labels: dict[str, Any], values: list[Any]) -> Iterator[str]:
        if not labels:
            yield "error at least one label pair is required per stream"
        elif len(labels) > MOST_LABELS:
            yield f"entry for stream has {len(labels)} label names; limit {MOST_LABELS}"
        elif any(not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in labels):
            yield f"Error parsing labels {labels}"
        elif any(len(name) > LONGEST_NAME or len(value.encode()) > LONGEST_VALUE for name, value in labels.items()):
            yield "stream has label value too long"
        else:
            for value in values:
                if said := self._entry(self.kept.setdefault(tuple(sorted(labels.items())), []), *value):
                    yield said

    def _entry(self, kept: list[tuple[int, str]], at: str, line: str) -> str:
        behind_s = time.time() - int(at) / 1e9
        if behind_s > OLDEST_S:
            return f"entry for stream has timestamp too old: {at}"
        if behind_s < -NEWEST_S:
            return f"entry for stream has timestamp too new: {at}"
        if len(line.encode()) > LONGEST_LINE:
            return f"Max entry size {LONGEST_LINE} bytes exceeded"
        newest = kept[-1][0] if kept else 0
        if int(at) < newest - FARTHEST_BEHIND_S * 10**9:
            return f"entry too far behind: {at}"
        if (id(kept), at, line) not in self._seen:
            self._seen.add((id(kept), at, line))
            if int(at) <= newest:
                self.faults.append(f"out of order: {at} after {newest}")  # Loki sorts it, but we said that we do
            kept.append((int(at), line))
        return ""


@contextmanager
def loki_sink(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[LokiSink]:
    """A Loki on this machine, in a thread."""
    sink = LokiSink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sink.asked += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sink.hold.wait(60)
            with sink.lock:
                sink.headers.append(dict(self.headers))
                if sink.answers:
                    status, extra = sink.answers.pop(0)
                    said = "entry too far behind\x1b[31m"
                else:
                    extra = {}
                    status, said = sink.answer(self.path, self.headers, body)
                    if status == 204:
                        sink.pushes.append(len(body))
                    elif status not in (413, 429):
                        sink.faults.append(f"{status} {said}")
            try:
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.end_headers()
                if status != 204:
                    self.wfile.write(said.encode())
            except OSError:
                pass  # hung up on: it was too slow

        def log_message(self, *_: object) -> None:
            """Nothing on the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        if tls is not None:
            sink.scheme = "https"
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        sink.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            sink.hold.set()
            server.shutdown()
            thread.join()
