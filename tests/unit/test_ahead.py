# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The attempt that was made ready in advance, where it cannot start: another is made, and nothing of it stays."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.support import processes_here
from tests.unit.here import JOB, Here, here, until  # noqa: F401 - a fixture
from ugro_py.errors import AllocationError, NodeError, StateError, UgroError
from ugro_py.recovery.ahead import Ahead
from ugro_py.state import Store

# The first attempt ends when the next one stands by; the second completes. What the first one saves has no manifest.
SCRIPT = """
import json, os, sys, time
print("step 1 loss=1.0 of attempt", os.environ["UGRO_ATTEMPT"], flush=True)
if os.environ["UGRO_ATTEMPT"] == "1":
    with open(os.path.join(os.environ["UGRO_CHECKPOINT_DIR"], "step_10.pt"), "w") as file:
        file.write("10")
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.05)
    sys.exit(3)
"""


def _play(here: Here, monkeypatch: pytest.MonkeyPatch) -> Any:
    prepare = Ahead._prepare

    async def prepared(self: Ahead) -> None:
        while self._ready is None:  # a machine that is busy beyond measure may not have a supervisor up in time
            await prepare(self)
        (here.folder / "go").touch()

    monkeypatch.setattr(Ahead, "_prepare", prepared)

    async def play() -> Any:
        await here.submit(SCRIPT, str(here.folder / "go"), retry=1)
        return await asyncio.wait_for(here.run(), 180)

    return asyncio.run(play())


def test_gpus_that_somebody_took_are_no_end_of_the_job(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = Store.start_attempt, []

    def taken_once(self: Store, job: str, *args: Any, **values: Any) -> int:
        asked.append(values["token"])
        if len(asked) == 2:  # the one in advance
            raise AllocationError("allocate a:0", "job other holds it")
        return real(self, job, *args, **values)

    monkeypatch.setattr(Store, "start_attempt", taken_once)
    outcome = _play(here, monkeypatch)
    assert (outcome.status, here.store.job(JOB).status, len(asked)) == ("completed", "completed", 3)
    assert processes_here(asked[1]) == []
    texts = [data["text"] for kind, data in here.told if kind in ("step", "warning")]
    assert any("attempt 2 starts from the beginning: no checkpoint with a manifest" in text for text in texts), texts
    late = "step_10.pt has no manifest, and came when attempt 2 had begun without it; see docs/recovery.md"
    assert texts.count(late) == 1


@pytest.mark.parametrize(("error", "status"), [(NodeError("b: go", "no"), "completed"),
                                               (StateError("database", "gone"), "failed")])  # fmt: skip
def test_an_attempt_that_could_not_start_whole_is_ended(
    here: Here, monkeypatch: pytest.MonkeyPatch, error: UgroError, status: str
) -> None:
    real, told = Ahead._go, []

    async def half(self: Ahead, gang: Any, ready: Any) -> None:
        told.append(gang)
        try:
            await real(self, gang, ready)
        except NodeError:  # a machine that is busy beyond measure was too slow: started in part, or not
            raise error from None
        log = here.on_node("a", gang.attempt) / "logs" / "rank_0.log"
        await until(lambda: log.exists() and log.read_text(), "rank 0 prints")
        raise error

    monkeypatch.setattr(Ahead, "_go", half)
    if status == "failed":
        with pytest.raises(StateError):
            _play(here, monkeypatch)
    else:
        assert _play(here, monkeypatch).status == "completed"
    assert here.store.job(JOB).status == status
    assert [(gang.attempt, processes_here(gang.token)) for gang in told] == [(2, [])]
    second = here.store.attempt(JOB, 2)
    assert second is not None and second.status == "failed" and "could not be started" in second.reason
    assert not here.on_node("a", 2).exists()
    assert here.store.busy() == {}
    if status == "completed":  # each attempt has its own lines
        logs = [here.paths.attempt(1), here.paths.attempt(2), here.paths.logs]
        said = [(folder / "rank_0.log").read_text() for folder in logs]
        assert said == [f"step 1 loss=1.0 of attempt {number}\n" for number in (1, 2, 3)]
