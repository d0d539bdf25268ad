# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro top`: what it shows and what its keys do, in Textual's own harness over a real store."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from textual.widgets import DataTable, Input

from tests.unit.api_server import Served
from tests.unit.top_hand import Hand, in_folder, top  # noqa: F401 - a fixture
from tests.unit.top_world import JOB, STEPS, World, job_store, world  # noqa: F401 - fixtures
from ugro_py import metrics
from ugro_py.api.client import Client
from ugro_py.cli import cli
from ugro_py.now import snapshot
from ugro_py.top import unwatched
from ugro_py.top.app import TopApp
from ugro_py.top.doors import AgentDoor, StoreDoor
from ugro_py.top.screens import StopScreen


def test_nodes_jobs_and_the_curve_of_the_one_that_runs() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
        assert "3 nodes" in hand.text("head") and "1 running, 1 waiting" in hand.text("head")
        first = hand.rows("nodes")["gpu-master"]
        assert (first["TYPE"], first["JOB"]) == ("NVIDIA GeForce RTX 4090", JOB)
        assert first["UTIL"].endswith("87%") and first["MEMORY"] == "9.8/24 GB"
        assert (first["°C"], first["W"], first["CPU"].strip()) == ("71", "301", "20%")
        assert hand.rows("nodes")["gpu2"]["UTIL"].endswith("80%")  # a CPU slot is as busy as its node
        job = hand.rows("jobs")[JOB]
        assert (job["STATUS"], job["USER"], job["STEP"], job["LOSS"]) == ("running", "ob", "119/1000", "1.512")
        assert job["TOKENS/S"] == "303"
        assert job["ETA"] == "14m41s"  # a step a second, 881 are left
        assert hand.rows("jobs")["done"]["STATUS"] == "completed"
        assert JOB in hand.text("title")

    top(check)


def test_what_changes_is_shown_and_what_is_chosen_stays_chosen(world: World) -> None:  # noqa: F811
    async def check(app: TopApp, hand: Hand) -> None:
        table = app.query_one("#jobs", DataTable)
        await hand.until(lambda: JOB in hand.text("title"), "the job that runs is chosen")
        await hand.press("down" if table.cursor_row == 0 else "up")
        await hand.until(lambda: JOB not in hand.text("title"), "another one is chosen")
        chosen = hand.text("title").split()[0]
        world.step(STEPS, 1.25)
        metrics.rebuild(world.paths)
        await hand.until(lambda: hand.rows("jobs")[JOB]["LOSS"] == "1.25", "the newest loss")
        world.store.create_job("newer", "eve", {})
        await hand.until(lambda: "newer" in hand.rows("jobs"), "the new job")
        assert hand.text("title").split()[0] == chosen

    top(check)


def test_enter_shows_one_job_alone_and_m_other_curves() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
        small = len(hand.text("curve").splitlines())
        await hand.press("enter")
        await hand.until(lambda: len(hand.text("curve").splitlines()) > 1.5 * small, "the curve is large")
        assert not app.query_one("#nodes").display or not app.query_one("#nodes").size.height
        await hand.press("m")
        await hand.until(lambda: hand.text("curve").startswith("tokens/s\n"), "the throughput")
        await hand.press("m")
        await hand.until(lambda: hand.text("curve").startswith("learning rate\n"), "the learning rate")
        await hand.press("m")
        await hand.until(lambda: hand.text("curve") == "gradient norm: no curve yet", "none was told")
        await hand.press("escape")
        await hand.until(lambda: app.query_one("#nodes").size.height > 0, "everything is there again")

    top(check)


def test_the_filter() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: len(hand.rows("jobs")) == 3, "all jobs")
        await hand.press("slash")
        await hand.until(lambda: isinstance(app.focused, Input), "letters go there")
        await hand.press(*"ANN pend")
        await hand.until(lambda: list(hand.rows("jobs")) == ["waits"], "one job fits")
        assert hand.rows("nodes") == {}
        await hand.press("enter")
        assert app.query_one("#filter", Input).display  # one sees that not everything is shown
        await hand.press("escape")
        await hand.until(lambda: len(hand.rows("jobs")) == 3, "all jobs again")
        assert not app.query_one("#filter", Input).display

    top(check)


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (20, 6)])
def test_narrow_terminals(size: tuple[int, int]) -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: JOB in hand.rows("jobs"), "the job")
        table = app.query_one("#jobs", DataTable)
        room = size[0] - 2 * table.show_vertical_scrollbar
        assert {"JOB", "STATUS", "LOSS"} <= set(hand.rows("jobs")[JOB]) or size[0] < 40
        await hand.until(lambda: table.virtual_size.width <= room, "no number is cut")
        assert ("USER" in hand.rows("jobs")[JOB]) is False
        if size == (80, 24):
            await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
            assert {"STEP", "TOKENS/S", "ETA", "TIME"} <= set(hand.rows("jobs")[JOB])
        await hand.pilot.resize_terminal(130, 40)
        await hand.until(lambda: "USER" in hand.rows("jobs").get(JOB, {}), "more room, more columns")

    top(check, size)


def test_stop_asks_first(world: World) -> None:  # noqa: F811
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: JOB in hand.text("title"), "the job is chosen")
        for no in ("n", "escape", "q", "enter"):  # `enter` presses the button that is chosen: let it run
            await hand.press("s")
            await hand.until(lambda: isinstance(app.screen, StopScreen), "the question")
            await hand.press(no)
            await hand.until(lambda: not isinstance(app.screen, StopScreen), f"{no} leaves")
        table = app.query_one("#jobs", DataTable)
        table.move_cursor(row=list(hand.rows("jobs")).index("done"))
        await hand.until(lambda: hand.text("title").startswith("done"), "the job that ended")
        await hand.press("s")
        assert not isinstance(app.screen, StopScreen)
        await hand.until(lambda: any("has ended already" in n.message for n in app._notifications), "it is told")

    top(check)
    assert world.store.job(JOB).status == "running" and not world.store.job(JOB).stop_requested


def test_once_and_json(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(unwatched, "WITHIN_S", 0.1)  # none of these nodes is there
    done = CliRunner().invoke(cli, ["-i", "hosts.yml", "top", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [node["node"] for node in found["nodes"]] == ["gpu-master", "gpu1", "gpu2"]
    assert {job["job"]: job["status"] for job in found["jobs"]} == {
        JOB: "running",
        "waits": "pending",
        "done": "completed",
    }
    once = CliRunner().invoke(cli, ["-i", "hosts.yml", "top", "--once"])
    assert "NVIDIA GeForce RTX 4090" in once.stdout and "119/1000" in once.stdout and "[red]markup" in once.stdout
    assert "\x1b" not in once.stdout
    refused = CliRunner().invoke(cli, ["-i", "hosts.yml", "top"])
    assert "needs a terminal; `ugro top --once`" in str(refused.exception)


def test_through_an_agent_it_is_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    served = Served(world.inventory.parent / "data")
    try:
        served.agent.cluster = StoreDoor("hosts.yml")._inventory.cluster
        door = AgentDoor(Client(served.path))
        theirs, ours = door.snapshot(), snapshot(world.store, served.agent.cluster)
        for one in (theirs, ours):
            for job in one["jobs"]:
                del job["age_s"], job["duration_s"]
            del one["at"]
        assert theirs == ours
        assert door.curve("no-such-job", "training_loss", 10) == []

        async def check(app: TopApp, hand: Hand) -> None:
            await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
            assert hand.rows("jobs")[JOB]["STEP"] == "119/1000"

        top(check, door=lambda: door)
    finally:
        served.close()
