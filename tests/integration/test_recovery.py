# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Jobs that go on: after a killed or frozen rank, a lost node, a preemption; and one whose time is up."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import SCRIPTS, Ugro, finish, processes_here, ranks_on, wait_until
from tests.lab import Lab
from ugro_py.state.rows import EventRow

STEPS = SCRIPTS / "steps.py"
ENDLESS = """
import os, signal, sys, time
def save(*_):
    open(os.path.join(os.environ["UGRO_CHECKPOINT_DIR"], "last.pt"), "w").write("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
while True:
    time.sleep(0.1)
"""
BREAKS = "import sys; print('step 1 loss=1.0', flush=True); sys.exit('no such column 17')"


def curve(ugro: Ugro, name: str) -> list[tuple[int, float]]:
    """Return step and loss that rank 0 has told of, all attempts, in order."""
    return [(line["step"], line["training_loss"]) for line in ugro.metrics(name) if line["rank"] == 0]


def steps(ugro: Ugro, name: str) -> list[int]:
    """Return the steps that rank 0 has told of, all attempts, in order."""
    return [step for step, _loss in curve(ugro, name)]


def wait_for_step(ugro: Ugro, name: str, step: int) -> None:
    ugro.wait_for_log(name, f"step {step} ", [0])


def wait_for_copy(ugro: Ugro, name: str) -> None:
    """Wait until a checkpoint has come to the central store while the job runs."""
    folder = ugro.folder(name) / "checkpoints"
    wait_until(lambda: list(folder.glob("step_*.pt.json")), f"a checkpoint of {name} in the central store")


def events(ugro: Ugro, name: str, kind: str) -> list[EventRow]:
    with ugro.store() as store:
        return [event for event in store.events(name, limit=500) if event.kind == kind]


def rank_here(ugro: Ugro, name: str, rank: int, attempt: int = 1) -> int:
    """Return the process of a rank of a job that runs on this machine."""
    for pid in processes_here(ugro.token(name, attempt)):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return pid
    raise AssertionError(f"rank {rank} of {name} does not run")


def test_a_frozen_rank_is_told_of_and_the_gang_starts_anew(ugro_here: Ugro) -> None:
    process = ugro_here.start(
        "launch", "--name", "ice", "--gpus", 2, "--script", STEPS, "--retry", 1, "--", 60, 0.1
    )  # fmt: skip
    wait_for_step(ugro_here, "ice", 12)
    wait_for_copy(ugro_here, "ice")
    os.kill(rank_here(ugro_here, "ice", 1), signal.SIGSTOP)
    found = wait_until(lambda: events(ugro_here, "ice", "rank_frozen"), "the frozen rank is told of")
    assert (found[0].rank, found[0].node) == (1, "gpu1")
    finish(process)
    assert "begins after step 0" not in ugro_here.log("ice", 0)
    assert steps(ugro_here, "ice")[-1] == 60
    stack = ugro_here.folder("ice") / "attempts" / "1" / "gpu1.rank_1.stack.log"
    assert "rank_frozen" in stack.read_text()
    assert ugro_here.leftovers(ugro_here.token("ice", 1)) == {}
    assert ugro_here.leftovers(ugro_here.token("ice", 2)) == {}


def test_a_preempted_job_waits_and_goes_on_from_the_checkpoint_it_wrote(ugro_here: Ugro) -> None:
    process = ugro_here.start("launch", "--name", "yields", "--gpus", 1, "--script", STEPS, "--", 40, 0.1)
    wait_for_step(ugro_here, "yields", 3)
    with ugro_here.store() as store:
        assert store.request_preempt("yields", "urgent")
        assert not store.request_preempt("yields", "urgent")
    finish(process)
    assert ugro_here.job("yields").status == "completed"
    assert ugro_here.job("yields").preempted == 1
    told = steps(ugro_here, "yields")
    assert told == list(range(1, 41))  # nothing done twice: the checkpoint was written when it was told to stop
    assert [event.text for event in events(ugro_here, "yields", "preempted")] == ["made room for urgent"]


def test_a_job_out_of_time_is_stopped_with_a_checkpoint(ugro_here: Ugro, tmp_path: Path) -> None:
    script = tmp_path / "code" / "endless.py"
    script.parent.mkdir()
    script.write_text(ENDLESS)
    done = ugro_here.run(
        "launch", "--name", "late", "--gpus", 1, "--time-limit", "15s", "--script", script, code=7
    )  # fmt: skip
    assert "time limit of 15 s" in done.stderr
    job = ugro_here.job("late")
    assert (job.status, job.exit_code) == ("failed", 124)
    assert (ugro_here.folder("late") / "checkpoints" / "last.pt").read_text() == "saved"


def test_what_fails_in_the_same_way_twice_is_not_tried_a_third_time(ugro_here: Ugro, tmp_path: Path) -> None:
    script = tmp_path / "code" / "breaks.py"
    script.parent.mkdir()
    script.write_text(BREAKS)
    done = ugro_here.run("launch", "--name", "twice", "--gpus", 1, "--retry", 5, "--script", script, code=7)
    assert "failed twice in the same way after step 1" in done.stdout
    assert len(events(ugro_here, "twice", "attempt_failed")) == 2


@pytest.mark.lab
def test_a_killed_rank_costs_a_few_steps_and_the_next_attempt_was_ready(ugro: Ugro, lab3: Lab) -> None:
    process = ugro.start("launch", "--name", "hit", "--script", STEPS, "--retry", 1, "--", 150, 0.1)
    wait_for_step(ugro, "hit", 12)
    wait_for_copy(ugro, "hit")
    wait_for_step(ugro, "hit", 40)
    host = lab3.hosts[1]
    host.enter(["kill", "-KILL", str(_inside(ranks_on(host, ugro.token("hit"))[1]))])
    finish(process)
    failed = events(ugro, "hit", "rank_failed")
    assert [(event.rank, event.data["signal"]) for event in failed if event.data] == [(1, "SIGKILL")]
    assert steps(ugro, "hit")[-1] == 150
    first = (ugro.folder("hit") / "attempts" / "2" / "gpu1.events.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["t"] < failed[0].at.timestamp()  # its supervisor was there before the rank was killed


def _inside(pid: int) -> int:
    """Return the number that a process has in its host."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


@pytest.mark.lab
def test_a_lost_node_gives_way_to_a_spare_one_and_then_to_fewer(
    make_lab: Callable[..., Lab], make_ugro: Callable[..., Ugro]
) -> None:
    lab = make_lab(4)
    ugro = make_ugro(lab.inventory_file(), lab)
    ugro.run("launch", "--name", "whole", "--nodes", 3, "--script", STEPS, "--", 250, 0)
    whole = dict(curve(ugro, "whole"))
    assert len(whole) == 250 and whole[250] < whole[1] / 10
    process = ugro.start(
        "launch", "--name", "moves", "--nodes", 3, "--min-nodes", 2, "--retry", 2, "--script", STEPS, "--", 250, 0.1
    )
    wait_for_copy(ugro, "moves")
    lab.hosts[1].power_off()
    wait_until(lambda: (ugro.folder("moves") / "attempts" / "2" / "gang.json").exists(), "attempt 2")
    wait_until(lambda: "begins after step" in ugro.log("moves", 0), "attempt 2 runs")
    assert "begins after step 0" not in ugro.log("moves", 0)
    assert {node for node, _ in ugro.rank_states("moves").values()} == {"gpu-master", "gpu2", "gpu3"}
    wait_for_step(ugro, "moves", steps(ugro, "moves")[-1] + 12)
    told = curve(ugro, "moves")
    lab.hosts[3].power_off()
    finish(process)
    # What was done before the node was lost, and what was done (again) after it, is the curve of the run without it.
    assert all(abs(loss - whole[step]) < 5e-5 for step, loss in told), told
    assert "world 2 wanted 3" in ugro.log("moves", 0)
    assert steps(ugro, "moves")[-1] == 250
    capsule = json.loads((ugro.folder("moves") / "config.json").read_text())
    assert (capsule["world_size"], capsule["world_size_wanted"]) == (2, 3)
    assert [event.node for event in events(ugro, "moves", "node_lost")] == ["gpu1", "gpu3"]
    assert ugro.busy() == {}
