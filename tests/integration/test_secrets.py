# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A secret is in the ranks' environment and nowhere else: no file, database, log, command line or other process."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.support import PLAY, SCRIPTS, Ugro, finish, wait_until
from tests.lab.processes import wait_gone

SECRET = SCRIPTS / "secret.py"


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> str:
    value = f"canary-{secrets.token_hex(16)}"
    monkeypatch.setenv("MY_SECRET", value)
    return value


def processes_with(value: str, file: str) -> dict[int, str]:
    """Return the processes of this machine (and so of the lab's hosts) in whose `file` of /proc the value is."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(entry.name) != os.getpid() and value.encode() in (entry / file).read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
    return found


def hidden_from_all_but_ranks(value: str) -> None:
    """No command line holds the value, and no environment but those of `ugro launch` itself and of ranks."""
    assert processes_with(value, "cmdline") == {}
    for pid, command in processes_with(value, "environ").items():
        assert "secret.py" in command, f"{pid}: {command}"


def files_with(value: str, *roots: Path) -> list[str]:
    """Return the files below the roots that hold the value."""
    there = [str(root) for root in roots if root.exists()]
    done = subprocess.run(["grep", "-rlaF", "--", value, *there], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


@pytest.mark.lab
@pytest.mark.slow
def test_a_secret_leaves_no_trace(ugro: Ugro, canary: str) -> None:
    job = ugro.start(
        "launch", "--name", "hush", "--script", SECRET, "--secret-env", "MY_SECRET", "--retry", 1, "--", 3, "fail"
    )
    ugro.wait_for_log("hush", "digest", range(3))
    hidden_from_all_but_ranks(canary)
    done = finish(job)
    digest = hashlib.sha256(canary.encode()).hexdigest()
    for rank in range(3):
        # The file's name is not left in the environment either; the second attempt had the secret too.
        assert ugro.log("hush", rank) == f"digest {digest} ['MY_SECRET']\n"
        first = (ugro.folder("hush") / "attempts" / "1" / f"rank_{rank}.log").read_text()
        assert first.startswith(f"digest {digest} ")
    assert canary not in done.stdout + done.stderr
    assert files_with(canary, ugro.data, ugro.home) == []
    assert processes_with(canary, "cmdline") == processes_with(canary, "environ") == {}
    assert ugro.lab is not None
    for host in ugro.lab.hosts:
        places = "/root /home /run /dev/shm /tmp /var/log"
        look = f"grep -rlaF -- {canary} {places} | sed 's/^/canary in /'; find /run /dev/shm -name 'ugro-*'"
        left = host.enter(["sh", "-c", look]).stdout
        assert not [line for line in left.splitlines() if line.startswith("canary") or "/ugro-" in line], left
        assert canary not in host.enter(["journalctl", "--no-pager", "--output=cat"]).stdout


def test_a_waiting_job_keeps_its_secret_in_memory_and_asks_for_it_again(
    ugro_here: Ugro, canary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: object, code: int = 0) -> None:
        """Run `ugro` with the secret in its environment, where no other has it."""
        with monkeypatch.context() as with_secret:
            with_secret.setenv("MY_SECRET", canary)
            ugro_here.run(*words, "--secret-env", "MY_SECRET", code=code)

    monkeypatch.delenv("MY_SECRET")
    ugro_here.run("launch", "-d", "--name", "first", "--script", PLAY, "--", "wait")
    for name in ("handed", "lost"):
        run("launch", "-d", "--name", name, "--script", SECRET)
    waiters = [
        wait_until(lambda name=name: (who := ugro_here.job(name).controller) and who.pid, f"somebody waits with {name}")
        for name in ("handed", "lost")
    ]
    assert processes_with(canary, "environ") == processes_with(canary, "cmdline") == {}
    os.kill(waiters[1], signal.SIGKILL)
    wait_gone([waiters[1]])
    ugro_here.run("status", "lost")  # somebody new waits with it, without the secret
    ugro_here.run("stop", "first")
    assert ugro_here.wait_for("handed", "completed", "failed").status == "completed"
    assert "digest" in ugro_here.log("handed", 0)
    wait_until(lambda: "ugro resume lost --secret-env MY_SECRET" in ugro_here.job("lost").reason, "it is held")
    assert files_with(canary, ugro_here.data) == []
    assert "MY_SECRET" in ugro_here.run("resume", "lost", code=2).stderr
    run("resume", "lost")
    assert "digest" in ugro_here.log("lost", 0)
    assert files_with(canary, ugro_here.data, ugro_here.home) == []
