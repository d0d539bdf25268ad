# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Events: what fits, in order, harmless on a terminal, and followed without losing one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ugro_py import events
from ugro_py.errors import UsageError
from ugro_py.state import Store

NOW = datetime(2026, 1, 20, 12, 0, tzinfo=UTC)


def fill(store: Store) -> None:
    store.create_job("job1", "ob", {})
    for number in range(5):
        store.add_event("tick", f"number {number}", job="job1", node="gpu1")
    store.add_event("gpu_missing", "GPU 0 is gone", node="gpu2", severity="warning")
    store.add_event("node_lost", "gpu2: no answer", job="job1", node="gpu2", severity="error", data={"a": 1})


@pytest.mark.parametrize(
    ("text", "age_s"), [("90s", 90), ("30m", 1800), ("5min", 300), ("1h", 3600), ("2d", 172_800), ("1.5h", 5400)]
)
def test_since_takes_ages(text: str, age_s: float) -> None:
    assert events.since(text, NOW) == NOW - timedelta(seconds=age_s)


def test_since_takes_times_and_refuses_the_rest() -> None:
    assert events.since("2026-01-20T11:00") == NOW - timedelta(hours=1)
    assert events.since("2026-01-20T13:00+02:00") == NOW - timedelta(hours=1)
    for text in ("", "yesterday", "-1h", "1", "999999w", "$(id)"):
        with pytest.raises(UsageError):
            events.since(text, NOW)


def test_filters_and_order(store: Store) -> None:
    fill(store)
    assert [e.kind for e in store.find_events(severity="warning")] == ["gpu_missing", "node_lost"]
    assert [e.kind for e in store.find_events(severity="error")] == ["node_lost"]
    assert [e.text for e in store.find_events(2, kinds=["tick"])] == ["number 3", "number 4"]
    assert {e.node for e in store.find_events(node="gpu2")} == {"gpu2"}
    assert store.find_events(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(store.find_events(job="job1", node="gpu1")) == 5
    ids = [e.id for e in store.find_events()]
    assert ids == sorted(ids)
    assert [e.id for e in store.events_after(ids[3])] == ids[4:]


def test_a_line_is_harmless_and_whole(store: Store) -> None:
    store.add_event("evil", "a\x1b[2J\x1b]0;title\x07b\r\nsecond \x1b[31mred\u202e\u2028", node="gpu1")
    (event,) = store.find_events(kinds=["evil"])
    line = events.line_of(event)
    assert "node gpu1: ab second red" in line
    assert line.isprintable()
    assert json.loads(events.line_of(event, True))["text"] == event.text


def test_following_loses_none_and_doubles_none(store: Store) -> None:
    fill(store)
    start = store.newest_event()

    def write(part: int) -> None:
        for number in range(30):
            store.add_event("wanted" if number % 3 else "other", f"{part}/{number}")

    threads = [threading.Thread(target=write, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    found = []
    until = time.monotonic() + 120
    for event in events.follow(store, start, kinds=["wanted"]):
        found.append(event.text)
        if len(found) == 40 or time.monotonic() > until:
            break
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"{part}/{n}" for part in range(2) for n in range(30) if n % 3)


def test_retention_keeps_what_is_still_needed(store: Store) -> None:
    fill(store)
    assert store.forget_events(datetime.now(UTC) - timedelta(days=1)) == 0
    store.note_alerts([], store.newest_event() - 1)  # the newest has not been dealt with
    assert store.forget_events(datetime.now(UTC) + timedelta(days=1)) == 1  # job1 is active: its events stay
    assert [e.kind for e in store.find_events(node="gpu2")] == ["node_lost"]
    store.set_job("job1", "failed")
    store.note_alerts([], store.newest_event())
    assert store.forget_events(datetime.now(UTC) + timedelta(days=1)) > 5
    assert store.find_events() == []


def test_the_command(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        fill(store)
    ugro = [str(Path(sys.executable).parent / "ugro"), "events"]
    env = {"UGRO_DATA": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def said(*arguments: str) -> list[str]:
        done = subprocess.run([*ugro, *arguments], env=env, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert [json.loads(line)["kind"] for line in said("--json", "--severity", "warning")] == [
        "gpu_missing",
        "node_lost",
    ]
    (line,) = said("-n", "1", "--since", "1h")
    assert "error" in line and "job job1, node gpu2: gpu2: no answer" in line
    seen = threading.Event()

    def write() -> None:
        with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
            while not seen.wait(0.2):  # it shows what comes after it began, whenever that is
                store.add_event("late", "another node", node="gpu2")
                store.add_event("late", "came later", node="gpu1")

    writer = threading.Thread(target=write)
    with subprocess.Popen(
        [*ugro, "-f", "-n", "0", "--node", "gpu1"], env=env, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        writer.start()
        try:
            assert "came later" in run.stdout.readline()
        finally:
            seen.set()
            writer.join()
            run.terminate()


def follow_in_thread(store: Store, after: int, count: int) -> tuple[threading.Thread, list[str]]:
    """Follow events after an id in a thread, until `count` came; return it and the texts that it fills."""
    texts: list[str] = []

    def work() -> None:
        for event in events.follow(store, after):
            texts.append(event.text)
            if len(texts) == count:
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, texts


def test_an_event_whose_writer_is_slower_than_the_next_is_not_missed(store: Store) -> None:
    store.add_event("tick", "before")
    after = store.newest_event()
    thread, texts = follow_in_thread(store, after, 2)
    second = threading.Thread(target=store.add_event, args=("tick", "second"))
    with store.database.write() as connection:
        store._event(connection, "tick", "first")
        second.start()
        time.sleep(1.0)  # on PostgreSQL the second one has its place by now, and the follower looked
        assert texts == []
    second.join(30)
    thread.join(30)
    assert texts == ["first", "second"]


def test_a_writer_that_hangs_keeps_news_from_nobody_for_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.database.sqlite:
        pytest.skip("SQLite has one writer at a time")
    monkeypatch.setattr("ugro_py.state.settled.PATIENCE_S", 0.3)
    after = store.newest_event()
    with store.database.write() as connection:
        store._event(connection, "tick", "hangs")
        store.add_event("tick", "one")
        assert [e.text for e in store.events_after(after)] == ["one"]
        store.add_event("tick", "two")
        monkeypatch.setattr("ugro_py.state.settled.PATIENCE_S", 3600.0)  # it was waited for once: not again
        assert [e.text for e in store.events_after(after)] == ["one", "two"]
