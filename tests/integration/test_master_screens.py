# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a laptop shows of a master over real SSH: `ugro --master … dashboard --open` in Chromium, and `… top`."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.browser.site import PATIENCE_MS, chromium, start
from tests.integration.laptop import SCRIPT, Laptop, laptop  # noqa: F401 - a fixture
from tests.integration.support import UGRO, interrupt, wait_until
from tests.terminal import Terminal

pytestmark = pytest.mark.lab


@pytest.fixture
def job(laptop: Laptop, request: pytest.FixtureRequest) -> str:
    """A job of ob that prints and measures."""
    name = f"of-ob-{abs(hash(request.node.name)) % 10_000}"
    laptop.run("ob", *SCRIPT, name, "--gpus", "1", "-d", "--", "steps", "100000", "0.05")
    wait_until(lambda: laptop.job(name)["status"] == "running", "the job runs", every_s=0.5)
    return name


class Tunnel:
    """`ugro --master USER@… dashboard --open`, as it runs on the laptop."""

    def __init__(self, laptop: Laptop, user: str) -> None:
        self.process = laptop.start(user, "dashboard", "--open", "--json")
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.url = str(json.loads(line)["url"])
        self.port = int(self.url.split("/")[2].rpartition(":")[2])

    def ssh(self) -> list[int]:
        """Return the processes that hold the tunnel."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.startswith(f"127.0.0.1:{self.port}:".encode()) for word in words):
                found.append(int(entry.parent.name))
        return found

    def is_gone(self) -> bool:
        """Say whether nothing of it is left: no ssh, nobody at the port."""
        with socket.socket() as probe:
            return not self.ssh() and probe.connect_ex(("127.0.0.1", self.port)) != 0

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.mark.skipif(chromium() is None, reason="no Chromium (Debian: apt-get install chromium)")
def test_the_dashboard_comes_through_ssh_and_ctrl_c_ends_it(laptop: Laptop, job: str) -> None:
    ours, theirs = Tunnel(laptop, "ob"), Tunnel(laptop, "ollie")
    try:
        assert len(ours.ssh()) == 1 and ours.port != theirs.port
        with sync_playwright() as playwright:
            browser = start(playwright)
            pages = []
            for tunnel in (ours, theirs):
                context = browser.new_context()
                context.set_default_timeout(PATIENCE_MS)
                context.on("dialog", lambda dialog: dialog.accept())
                pages.append(context.new_page())
                pages[-1].goto(tunnel.url)
                expect(pages[-1].get_by_role("heading", name="Cluster")).to_be_visible()
                expect(pages[-1].locator("#node-gpu-master")).to_contain_text(job)
                expect(pages[-1].locator("#live-state")).to_have_text("Live")
            ob, ollie = pages
            expect(ob.locator(".user")).to_contain_text("ob")
            expect(ollie.locator(".user")).to_contain_text("ollie")
            expect(ollie.get_by_role("button", name="Stop job")).to_have_count(0)
            # A link is for once, whoever has it.
            stranger = browser.new_context().new_page()
            answer = stranger.goto(ours.url)
            assert answer is not None and answer.status == 403
            # Lines come through the tunnel as they are printed.
            ob.get_by_role("link", name=job).first.click()
            expect(ob.locator(".log-line").last).to_contain_text("step ")
            last = ob.locator(".log-line").last.inner_text()
            expect(ob.locator(".log-line").last).not_to_have_text(last)
            ob.goto(f"http://127.0.0.1:{ours.port}/")
            ob.get_by_role("button", name=f"Stop job {job}").click()
            expect(ob.get_by_text(f"Job {job} is being stopped.")).to_be_visible()
            wait_until(lambda: laptop.job(job)["status"] == "stopped", "the job has ended", every_s=0.5)
            interrupt(ours.process)
            assert ours.process.wait(60) == 130
            wait_until(ours.is_gone, "ssh and its port are gone")
            expect(ob.locator("#live-state")).to_have_text("Not connected: tries again")
            expect(ollie.locator("#live-state")).to_have_text("Live")  # the other one's goes on
            browser.close()
    finally:
        for tunnel in (ours, theirs):
            tunnel.close()
    wait_until(theirs.is_gone, "ssh ends with who began it, however that one ends")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_it_ends_no_ssh_is_left(laptop: Laptop, how: signal.Signals) -> None:
    tunnel = Tunnel(laptop, "ob")
    try:
        tunnel.process.send_signal(how)  # to this process alone: no shell tells ssh of it
        tunnel.process.wait(60)
        wait_until(tunnel.is_gone, f"ssh has ended after {how.name}")
    finally:
        for pid in tunnel.ssh():
            os.kill(pid, signal.SIGKILL)
        tunnel.close()


def test_top_shows_the_master_and_stops_a_job(laptop: Laptop, job: str) -> None:
    command = [UGRO, "--master", f"ob@{laptop.host.address}", "top"]
    with Terminal(command, laptop.env, columns=100, rows=30) as terminal:
        terminal.wait_for("gpu-master", job, "1 running", "└", timeout_s=120)
        terminal.press("l")
        terminal.wait_for("step ", f"{job}, logs of")
        terminal.press("/step 3 \r")
        terminal.wait_for("“step 3 ”")
        terminal.press("q")
        terminal.wait_for("CPU slots")
        terminal.press("s")
        terminal.wait_for(f"Stop {job}, a job of ob?")
        terminal.press("y")
        terminal.wait_for(f"job {job} stopped", timeout_s=120)
        terminal.wait_for("0 running")
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.settings == terminal.before
    assert laptop.job(job)["status"] == "stopped"
    left = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in left.splitlines() if "ssh -t" in line and str(laptop.host.address) in line]
