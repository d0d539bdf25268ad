# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""An attempt on its node: the command it runs, and a start that a stop or the current folder comes between."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import attempt_lock, processes, supervisor, units
from ansible_collections.ugro.cluster.plugins.module_utils.attempt import Attempt, filled

WORDS = {"{python}": "/venv/python", "{attempt}": "/jobs/j/1", "{rank_exec}": "/u/rank_exec.py"}
TORCHRUN = ["{python}", "-m", "torch.distributed.run", "--no-python", "{python}", "-S", "{rank_exec}", "{attempt}"]
USER = ["{attempt}", "{python}", "{rank_exec}", "{attempt}", "{python}"]

Spec = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("program", [["{python}", "train.py"], ["./train"]])
def test_what_the_user_passes_stays_as_it_is(program: list[str]) -> None:
    command = filled([*TORCHRUN, *program, *USER], WORDS)
    ours = [WORDS.get(word, word) for word in TORCHRUN + program]
    assert command == ours + USER


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    def make(*program: str, token: str = "own") -> dict[str, Any]:
        return {
            "job": "j", "attempt": 1, "token": f"{token}-{os.getpid()}-{tmp_path.name}", "python": sys.executable,
            "kind": "cpu", "stop_grace_s": 1, "env": {"RANK": "0"},
            "launches": [{
                "ranks": [0], "gpus": ["CPU-n1-0"],
                "command": ["{python}", "-S", "{rank_exec}", "{attempt}", *(program or ("sleep", "600"))],
            }],
        }  # fmt: skip

    return make


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempt]:
    """An attempt whose supervisor is started without systemd; what it started is ended after the test."""
    monkeypatch.setattr(units, "manager", lambda: units.NONE)
    it = Attempt(str(tmp_path / "node_dir"), "n1", "j", 1)
    yield it
    if it.status()["state"] != "absent":
        it.stop("the test is over", 0.0)


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Hold every start just before it starts the supervisor: returns what says it got there, and what lets it go."""
    there, go_on = threading.Event(), threading.Event()
    real = units.start

    def start(*arguments: Any) -> str:
        there.set()
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(units, "start", start)
    return there, go_on


class Starting(threading.Thread):
    """A start in a thread, as the session has it."""

    def __init__(self, attempt: Attempt, spec: dict[str, Any], code: str | None = None) -> None:
        super().__init__(daemon=True)
        self.attempt, self.spec, self.code = attempt, spec, code
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.attempt.start(self.spec, self.code)
        except OSError as error:
            self.error = error


def test_a_stop_keeps_a_start_under_way_from_coming_up(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, go_on = held(monkeypatch)
    starting = Starting(attempt, spec())
    assert there.wait(30)
    stopped = attempt.stop("enough", 0.0)
    assert (stopped["state"], stopped["changed"], stopped["left"]) == ("absent", True, 0)
    go_on.set()
    starting.join(30)
    assert "attempt 1 of job j was stopped before it had started" in str(starting.error)
    assert supervisor.main(attempt.dir) == 0, "one that comes late finds its lock taken"
    assert not os.path.exists(attempt.path("events.jsonl"))
    again = attempt.stop("enough", 0.0, timeout_s=600)
    assert (again["state"], again["changed"]) == ("absent", False), "and it does not wait"
    with pytest.raises(OSError, match="was stopped before"):
        attempt.start(spec())


def test_a_stop_with_another_token_does_not_keep_it_from_coming_up(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, go_on = held(monkeypatch)
    starting = Starting(attempt, spec())
    assert there.wait(30)
    assert attempt.stop("not mine", 0.0, token="another")["changed"] is False
    go_on.set()
    starting.join(30)
    assert (starting.error, attempt.status()["state"]) == (None, "started")


def test_a_start_whose_folder_was_removed_leaves_none(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, go_on = held(monkeypatch)
    starting = Starting(attempt, spec())
    assert there.wait(30)
    attempt.stop("enough", 0.0)
    attempt.remove()
    os.makedirs(attempt.path("logs"))  # as a start that still copies code does
    go_on.set()
    starting.join(30)
    assert "was stopped before it had started" in str(starting.error)
    assert not os.path.exists(attempt.dir)


def test_removing_waits_for_a_start_that_still_copies(
    attempt: Attempt, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code comes while the folder is being removed: nothing of either is left, and nothing starts."""
    _, go_on = held(monkeypatch)  # else it has started before the stop, if this thread gets no turn for a while
    code = tmp_path / "code"
    for number in range(300):
        (code / str(number)).mkdir(parents=True)
        (code / str(number) / "file.py").write_text("")
    starting = Starting(attempt, spec(), str(code))
    deadline = time.monotonic() + 30
    while not os.path.exists(attempt.path("code.new", "0")) and not os.path.exists(attempt.path("code")):
        assert time.monotonic() < deadline
    attempt.stop("enough", 0.0)
    go_on.set()
    attempt.remove()
    starting.join(30)
    assert "was stopped before it had started" in str(starting.error)
    assert not os.path.exists(attempt.dir)


def test_a_supervisor_that_has_just_taken_the_attempt_is_waited_for_and_stopped(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is there but what names it is not: the stop must not believe that nothing runs."""
    attempt.prepare(spec(), None)
    assert attempt_lock.take(attempt.dir)
    looks: list[str] = []
    real = Attempt.status

    def status(self: Attempt) -> dict[str, Any]:
        looks.append(real(self)["state"])
        if len(looks) == 3:
            os.unlink(self.path("supervisor.lock"))
            self.start(spec())
        return real(self)

    monkeypatch.setattr(Attempt, "status", status)
    stopped = attempt.stop("enough", 0.0)
    assert looks[:2] == ["absent", "absent"]
    assert (stopped["state"], stopped["changed"], stopped["left"]) == ("stopped", True, 0)
    events = [json.loads(line) for line in Path(attempt.path("events.jsonl")).read_text().splitlines()]
    assert [event["reason"] for event in events if event["kind"] == "stopping"] == ["enough"]


def test_a_supervisor_that_took_the_attempt_and_is_gone_is_not_waited_for_for_ever(
    attempt: Attempt, spec: Spec
) -> None:
    attempt.prepare(spec(), None)
    assert attempt_lock.take(attempt.dir)
    assert attempt.stop("enough", 0.0, timeout_s=0.1)["state"] == "absent"


def test_a_stop_waits_until_the_supervisor_itself_is_gone(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how the attempt ended, and then has its own end before it."""
    real = units.start

    def start(unit: str, argv: list[str], log: str) -> str:
        slow = argv[3].replace("sys.exit(main(sys.argv[2]))", "main(sys.argv[2]); import time; time.sleep(0.5)")
        assert slow != argv[3]
        return real(unit, [*argv[:3], slow, *argv[4:]], log)

    monkeypatch.setattr(units, "start", start)
    pid = attempt.start(spec())["pid"]
    stopped = attempt.stop("enough", 0.0)
    assert (stopped["state"], stopped["changed"], stopped["left"]) == ("stopped", True, 0)
    assert not processes.is_alive(pid)


def test_what_a_stopped_start_of_another_controller_left_is_cleared(attempt: Attempt, spec: Spec) -> None:
    attempt.prepare(spec(token="other"), None)
    Path(attempt.path("code", "old.py")).write_text("")
    assert attempt.stop("enough", 0.0)["changed"] is True
    assert attempt.start(spec())["state"] == "started"
    assert os.listdir(attempt.path("code")) == []


def test_a_start_waits_for_another_controllers_that_is_under_way(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session of a controller that was killed still starts the attempt when the next one's comes for the same."""
    there, go_on = held(monkeypatch)
    killed = Starting(attempt, spec(token="killed"))
    assert there.wait(30)
    cleared = threading.Event()
    real = Attempt._clear_other
    monkeypatch.setattr(Attempt, "_clear_other", lambda self, state: (cleared.set(), real(self, state)))
    later = Starting(attempt, spec(token="later"))
    assert not cleared.wait(1.0), "its folder is not taken from under it"
    attempt.stop("the attempt is over", 0.0)
    go_on.set()
    killed.join(30)
    later.join(60)
    assert "was stopped before it had started" in str(killed.error)
    assert (later.error, attempt.status()["state"]) == (None, "started")
    assert attempt.read("spec.json")["token"] == spec(token="later")["token"]
    assert attempt.read("supervisor.json")["token"] == spec(token="later")["token"]


def test_a_start_that_lasts_for_ever_is_not_waited_for_as_long(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, go_on = held(monkeypatch)
    first = Starting(attempt, spec())
    assert there.wait(30)
    with pytest.raises(OSError, match="another start in"):
        attempt.start(spec(token="later"), timeout_s=0.2)
    go_on.set()
    first.join(30)
    assert (first.error, attempt.status()["state"]) == (None, "started")


def test_a_full_disk_is_told_as_such(attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("json.dump", full)
    with pytest.raises(OSError, match="No space left"):
        attempt.start(spec())


def test_modules_of_the_user_are_for_the_ranks_alone(
    attempt: Attempt, spec: Spec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A json.py where UGRO happens to start the supervisor, or in the code, is not the standard library's."""
    here, code = tmp_path / "here", tmp_path / "code"
    for folder in (here, code):
        folder.mkdir()
        for name in ("json", "select", "secrets"):
            (folder / f"{name}.py").write_text(f"raise SystemExit('{folder.name}')")
    (code / "train.py").write_text("import os, secrets\n")
    monkeypatch.chdir(here)
    it = spec("{python}", "train.py")
    torchrun = "import secrets, subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    it["launches"][0]["command"][:0] = ["{python}", "-c", torchrun]
    attempt.start(it, str(code))
    deadline = time.monotonic() + 30
    while attempt.status()["state"] != "stopped":
        assert time.monotonic() < deadline, Path(attempt.path("logs", "supervisor.log")).read_text()
        time.sleep(0.02)
    assert Path(attempt.path("logs", "torchrun.log")).read_text() == ""
    assert Path(attempt.path("logs", "rank_0.log")).read_text() == "code\n", "a rank has its own modules first"
