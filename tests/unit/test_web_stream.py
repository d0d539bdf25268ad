# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Lines of logs as they come to a page of the dashboard, for quick readers and slow ones."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import http.client
import json
from typing import Any

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, connected, get


class Stream:
    """What one page is sent."""

    def __init__(self, served: Served, url: str, **headers: str) -> None:
        self._served = connected(served)
        connection = self._served.__enter__()
        connection.request("GET", url, headers=headers)
        self.answer: http.client.HTTPResponse = connection.getresponse()
        assert self.answer.status == 200

    def next(self, *kinds: str) -> tuple[str, str, Any]:
        """Return kind, id and data of the next event of one of these kinds."""
        kind = event_id = ""
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                event_id = value
            elif name == "data" and kind in kinds:
                return kind, event_id, json.loads(value)

    def close(self) -> None:
        self._served.__exit__(None, None, None)


def test_lines_are_sent_as_they_come_and_from_where_one_was(start: Serve) -> None:
    served = start()
    job = Job(served)
    attempt = job.start()
    job.log(b"old\n")
    stream = Stream(served, "/experiments/first/live?rank=0")
    _, _, data = stream.next("log")
    assert [line["text"] for line in data["lines"]] == ["old"]
    job.log(HTML.encode() + b"\nhalf")
    _, place, data = stream.next("log")
    while not data["partial"]:
        _, place, data = stream.next("log")
    assert data["partial"] == "half"
    job.step(attempt, 1, training_loss=2.5)
    stream.next("series")
    stream.close()

    job.log(b" whole\n")
    job.log(b"other\n", rank=1)
    again = Stream(served, "/experiments/first/live?rank=0", **{"Last-Event-ID": place})
    _, _, data = again.next("log")
    assert [line["text"] for line in data["lines"]] == ["half whole"]
    job.end()
    parts = {}
    while True:
        kind, _, data = again.next("part", "end")
        if kind == "end":
            break
        parts[data["part"]] = data["html"]
    assert "completed" in parts["facts"]
    assert {"facts", "ranks", "events"} <= set(parts)
    again.close()


def test_all_ranks_and_a_new_attempt(start: Serve) -> None:
    served = start()
    job = Job(served)
    one = job.start()
    job.log(b"a long line of the first attempt\n")
    job.log(b"one\n", rank=1)
    stream = Stream(served, "/experiments/first/live?rank=all")
    assert {stream.next("log")[2]["rank"] for _ in range(2)} == {0, 1}
    job.paths.attempt(one).mkdir(parents=True, exist_ok=True)
    job.store.set_attempt(job.name, one, status="failed")
    job.paths.keep_logs(one)
    job.start()
    job.log(b"new\n")
    anew = set()
    while not (data := stream.next("log")[2])["lines"]:  # the new log may be seen before there is a line in it
        anew |= {data["rank"]} if data.get("reset") else set()
    assert data["rank"] == 0
    assert data.get("reset") or 0 in anew
    assert [line["text"] for line in data["lines"]] == ["new"]
    stream.close()


def test_who_is_far_behind_goes_on_at_the_end(start: Serve) -> None:
    served = start()
    job = Job(served)
    job.start()
    job.log(
        b"".join(b"%d %s\n" % (number, b"x" * 100) for number in range(100_000)) + b"v" * (10 << 20) + b"\nthe end\n"
    )
    stream = Stream(served, "/experiments/first/live?rank=0")
    _, _, data = stream.next("log")
    assert data["skipped"] > 1 << 20
    assert len(json.dumps(data)) < 1 << 20
    assert data["lines"][-1]["text"] == "the end"
    stream.close()
    status, text, _ = get(served, "/experiments/first/logs")
    assert status == 200
    assert len(text) < 1 << 20


def test_slow_readers_cost_the_others_nothing(start: Serve) -> None:
    served = start()
    job = Job(served)
    job.start()
    job.log(b"x" * 1000 + b"\n")
    slow = [Stream(served, "/experiments/first/live?rank=0") for _ in range(5)]  # none of them is read
    for number in range(40):
        job.log(b"%d %s\n" % (number, b"y" * 100_000))
    quick = Stream(served, "/experiments/first/live?rank=0")
    job.log(b"now\n")
    while True:
        _, _, data = quick.next("log")
        if any(line["text"] == "now" for line in data["lines"]):
            break
    for stream in [quick, *slow]:
        stream.close()


def test_a_job_that_is_resumed_is_followed_again(start: Serve) -> None:
    """Although the stream before has just said that it ended, and what it knew is still there."""
    served = start()
    job = Job(served)
    job.start()
    job.end("failed")
    for _ in range(2):
        stream = Stream(served, "/experiments/first/live")
        stream.next("end")
        stream.close()
    assert served.agent.store.reopen("first")
    stream = Stream(served, "/experiments/first/live")
    kind, _, data = stream.next("part", "end")
    assert kind == "part"
    assert "pending" in data["html"]
    job.start()
    while "running" not in data["html"]:
        kind, _, data = stream.next("part", "end")
        assert kind == "part"
    stream.close()
