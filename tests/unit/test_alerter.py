# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Alerts arrive at a real SMTP server and a real HTTP server: once, and again when it is over."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.sinks import http_sink, smtp_sink
from ugro_py.alerts.alerter import Alerter
from ugro_py.alerts.rules import Target
from ugro_py.alerts.sender import deliver, send
from ugro_py.cluster import Node, Settings
from ugro_py.state import Store
from ugro_py.state.models import nodes

PATIENCE_S = 60.0
FAST = {"poll_s": 0.02, "backoff_s": (0.05, 0.05)}


def run_until(alerter: Alerter, condition: Callable[[], Any], do: Callable[[], None] = lambda: None) -> None:
    """Run the alerter until a condition holds (which must happen in time), `do` once it has begun."""

    async def work() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(alerter.run(stop))

        async def until(condition: Callable[[], Any]) -> None:
            deadline = time.monotonic() + PATIENCE_S
            while not condition():
                assert not running.done() and time.monotonic() < deadline
                await asyncio.sleep(0.01)

        await until(lambda: alerter._store.alert_cursor() is not None)  # what is before that is no news
        do()
        await until(condition)
        stop.set()
        await running

    asyncio.run(work())


def url_of(port: int, path: str = "hook") -> str:
    return f"json://user:s3cr3tword@127.0.0.1:{port}/{path}"


def test_begin_and_end_arrive_once_and_a_restart_repeats_nothing(store: Store) -> None:
    store.add_event("node_lost", "gpu9: long ago", node="gpu9", severity="error")
    with http_sink() as sink:
        settings = Settings(alert_urls=(url_of(sink.port),))

        def lose() -> None:
            for _ in range(3):
                store.add_event("node_lost", "gpu1: no answer for 5.5 s", node="gpu1", severity="error")

        def told() -> bool:
            return len(sink.taken) == 1 and all(row.notified_at and row.count == 3 for row in store.alerts())

        run_until(Alerter(store, settings, **FAST), told, lose)
        (row,) = store.alerts()
        assert (row.key, row.count, row.node) == ("node:gpu1:unreachable", 3, "gpu1")
        assert sink.taken[0]["title"] == "[ugro] ERROR gpu1: node unreachable"
        assert "no answer for 5.5 s" in sink.taken[0]["message"]

        # While nobody watches the condition ends, another begins; the next alerter tells just that.
        store.add_event("node_back", "gpu1 answers again", node="gpu1")
        store.add_event("gpu_missing", "GPU 0 GPU-1 is gone", node="gpu2", severity="warning")
        run_until(Alerter(store, settings, **FAST), lambda: len(sink.taken) >= 3 and not pending(store))
        assert sorted(item["title"] for item in sink.taken[1:]) == [
            "[ugro] OVER gpu1: node unreachable", "[ugro] WARNING gpu2: gpu lost",
        ]  # fmt: skip

        def lose_another() -> None:
            store.add_event("gpu_missing", "GPU 0 GPU-2 is gone", node="gpu3", severity="warning")

        run_until(Alerter(store, settings, **FAST), lambda: len(sink.taken) >= 4 and not pending(store), lose_another)
        assert [item["title"] for item in sink.taken[3:]] == ["[ugro] WARNING gpu3: gpu lost"]


def pending(store: Store) -> bool:
    """Whether something is still to be told."""
    return any(
        row.notified_at is None or (row.resolved_at and row.notified_at < row.resolved_at)
        for row in store.alerts(unfinished=True)
    )


def test_mail_arrives_and_a_job_that_failed_is_done_with(store: Store) -> None:
    store.create_job("train1", "ob", {})
    with smtp_sink() as (port, mails):
        settings = Settings(alert_urls=(f"mailto://127.0.0.1:{port}/?from=ugro@lab.example&to=ob@lab.example",))
        run_until(
            Alerter(store, settings, **FAST), lambda: mails and not store.alerts(unfinished=True),
            lambda: store.set_job("train1", "failed", "rank 1 on gpu1 was killed by SIGKILL", -9),
        )  # fmt: skip
    mail, *again = mails
    # A server that takes longer than the client waits is told once more: better twice than never (docs/alerts.md).
    assert all(one["Subject"] == mail["Subject"] for one in again)
    assert mail["Subject"] == "[ugro] ERROR train1: job failed"
    assert "ob@lab.example" in mail["To"]
    text = mail.get_body(("plain", "html")).get_content()
    assert "killed by SIGKILL" in text and "ugro explain train1" in text


def test_one_that_refuses_holds_up_no_other_and_is_told_of_without_its_secrets(store: Store) -> None:
    with http_sink() as good, http_sink() as bad:
        bad.status = 500
        settings = Settings(alert_urls=(url_of(bad.port, "verysecretpath"), url_of(good.port)))
        run_until(
            Alerter(store, settings, **FAST), lambda: good.taken and store.find_events(kinds=["alert_failed"]),
            lambda: store.add_event("node_lost", "x", node="gpu1", severity="error"),
        )  # fmt: skip
        assert len(good.taken) == 1
        assert bad.refused == 3
        (event,) = store.find_events(kinds=["alert_failed"])
        assert f"json://127.0.0.1:{bad.port} takes no alerts" in event.text
        assert "s3cr3tword" not in event.text and "verysecretpath" not in event.text
        assert {row.rule for row in store.alerts()} == {"node_unreachable"}


def test_what_nobody_took_is_told_as_soon_as_somebody_does(store: Store) -> None:
    with http_sink() as sink:
        sink.status = 503
        alerter = Alerter(store, Settings(alert_urls=(url_of(sink.port),)), **FAST)

        def recovered() -> bool:
            if sink.refused >= 4:
                sink.status = 200
            return bool(sink.taken)

        run_until(alerter, recovered, lambda: store.add_event("node_lost", "x", node="gpu1", severity="error"))
    assert len(sink.taken) == 1


def test_flapping_is_told_twice_at_most(store: Store) -> None:
    with http_sink() as sink:
        alerter = Alerter(store, Settings(alert_urls=(url_of(sink.port),)), **FAST)

        def flap() -> None:
            for _ in range(10):
                store.add_event("node_lost", "x", node="gpu1", severity="error")
                store.add_event("node_back", "x", node="gpu1")

        run_until(alerter, lambda: len(store.alerts()) == 10, flap)
    assert len(sink.taken) <= 4


def test_a_node_that_a_job_lost_and_the_sweeps_found_well_is_over(store: Store) -> None:
    store.sync_node(Node("gpu1", "10.0.0.1"), [], {})
    with http_sink() as sink:
        alerter = Alerter(store, Settings(alert_urls=(url_of(sink.port),)), **FAST)

        def lose() -> None:
            store.add_event("node_lost", "x", node="gpu1", severity="error")

        run_until(alerter, lambda: len(sink.taken) == 1 and not pending(store), lose)
        with store.database.write() as connection:
            later = datetime.now(UTC) + timedelta(minutes=5)
            connection.execute(update(nodes).values(health="healthy", health_at=later))

        async def once() -> None:
            alerter.step(later)

        asyncio.run(once())
    assert store.alerts()[0].resolved_at == later


def test_an_agent_after_one_that_was_killed_is_told_of(store: Store) -> None:
    with http_sink() as sink:
        alerter = Alerter(store, Settings(alert_urls=(url_of(sink.port),)), **FAST)

        def live() -> None:
            for kind in ("lease_held", "lease_given_back", "lease_held", "lease_held"):
                store.add_event(kind, f"agent: {kind}")

        run_until(alerter, lambda: sink.taken, live)
    assert [item["title"] for item in sink.taken] == ["[ugro] WARNING cluster: agent took over"]
    assert store.forget_events(datetime.now(UTC) + timedelta(days=1)) == 0


def test_one_that_hangs_does_not_hold_up_the_loop() -> None:
    answers, answered = threading.Event(), threading.Event()

    def hang(*_: object) -> str:
        answers.wait(60)
        answered.set()
        return ""

    why = asyncio.run(deliver(Target("json://x", "json://x"), "t", "b", "info", 0.2, hang))
    assert why == "no answer in 0.2 s"
    assert not answered.is_set()
    answers.set()


@pytest.mark.parametrize("url", ["nosuchservice://user:hunter2@host", "json://user:hunter2@127.0.0.1:9/hunter2"])
def test_why_it_failed_tells_no_secret(url: str) -> None:
    why = send(Target(url, "x"), "title", "body", "info")
    assert why and "hunter2" not in why


def test_the_commands(tmp_path: Path) -> None:
    env = {"UGRO_DATA": str(tmp_path), "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    program = str(Path(sys.executable).parent / "ugro")
    with http_sink() as sink, smtp_sink() as (port, mails):
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(
            "all:\n  vars:\n    ugro_alerts:\n      urls:\n"
            f"        - json://127.0.0.1:{sink.port}/x\n        - mailto://127.0.0.1:{port}/?from=a@b.example&to=c@d.example\n"
            "  children:\n    ugro_nodes:\n      hosts:\n        one: {ansible_connection: local, ugro_role: master}\n"
        )

        def ugro(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [program, "-i", str(inventory), "alerts", *arguments]
            return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

        done = ugro("test", "--json")
        assert done.returncode == 0, done.stderr
        assert [item["sent"] for item in json.loads(done.stdout)] == [True, True]
        assert len(sink.taken) == len(mails) == 1
        sink.status = 404
        done = ugro("test")
        assert done.returncode == 1
        assert "1 of 2 addresses did not take it" in done.stderr
        assert ugro().stdout == "no alerts\n"
        with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
            run_until(
                Alerter(store, Settings(alert_urls=(f"json://127.0.0.1:{sink.port}",)), **FAST),
                lambda: store.alerts(), lambda: store.add_event("node_lost", "x\x1b[2J", node="n", severity="error"),
            )  # fmt: skip
        assert "open  node_unreachable  n: x" in ugro("ls").stdout and "\x1b" not in ugro("ls").stdout
        assert json.loads(ugro("ls", "--json").stdout)[0]["key"] == "node:n:unreachable"


def test_ids_that_no_event_ever_gets_hold_up_no_alert(store: Store) -> None:
    """On PostgreSQL a write that came to nothing leaves a gap. Those that may be filled the store waits for."""
    alerter = Alerter(store, Settings(alert_urls=(url_of(9),)))
    alerter._read()
    with pytest.raises(ZeroDivisionError), store.database.write() as connection:
        store._event(connection, "tick", "never comes to be")
        raise ZeroDivisionError
    store.add_event("node_lost", "x", node="gpu1", severity="error")
    alerter._read()
    assert [row.rule for row in store.alerts()] == ["node_unreachable"]
