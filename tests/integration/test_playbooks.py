# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The playbooks launch, collect and stop alone, without the command `ugro`, on real hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.support import PLAY, Ugro, finish, wait_until
from tests.lab import Lab
from ugro_py import paths
from ugro_py.runner import environment

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ANSIBLE_PLAYBOOK = Path(sys.prefix) / "bin" / "ansible-playbook"
Playbook = Callable[..., subprocess.CompletedProcess[str]]


def start(ugro: Ugro, name: str, *options: str) -> subprocess.Popen[str]:
    """Start a playbook: by path with the checkout's settings, or by its full name with none at all."""
    settings = {} if name.startswith("ugro.cluster.") else environment()
    by_path = name if name.startswith("/") else str(paths.playbook(name))
    book = by_path if settings else name
    inventory = ["-i", str(ugro.inventory or paths.embedded_inventory())]
    return subprocess.Popen(
        [str(ANSIBLE_PLAYBOOK), book, *inventory, *options],
        env={**ugro.env, **settings}, cwd=ugro.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture
def begin(ugro: Ugro) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a playbook in the background; it does not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def run(name: str, /, *options: str) -> subprocess.Popen[str]:
        started.append(start(ugro, name, *options))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def playbook(ugro: Ugro) -> Playbook:
    """Run a playbook to its end; `values` are its -e, its exit code must be `code`."""

    def run(name: str, /, *options: str, code: int = 0, **values: object) -> subprocess.CompletedProcess[str]:
        return finish(start(ugro, name, *options, *given(values)), code, timeout_s=280)

    return run


def given(values: dict[str, object]) -> list[str]:
    """Return values as -e options: texts as NAME=TEXT where a shell's quoting allows it, else as JSON."""
    return [
        word
        for key, value in values.items()
        for word in ("-e", f"{key}={value}" if isinstance(value, int) else json.dumps({key: value}))
    ]


def nothing_is_left(ugro: Ugro, job: str) -> None:
    assert ugro.busy() == {}
    assert ugro.leftovers(ugro.token(job)) == {}


@pytest.mark.torch
def test_one_playbook_trains_on_every_node_and_leaves_the_store_complete(ugro: Ugro, playbook: Playbook) -> None:
    steps = 3
    done = playbook(
        "launch", "-e", "model=tiny-llama", "-e", "dataset=python-docs", "-e", "epochs=1", "-e", "name=first_test",
        "-e", "nodes=3", "-e", f"args='--max-steps {steps} --seq-len 32'",
    )  # fmt: skip
    assert "job first_test completed" in done.stdout
    folder = ugro.folder("first_test")
    assert sorted(path.name for path in (folder / "logs").iterdir()) == [f"rank_{rank}.log" for rank in range(3)]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    shown = sorted((line["rank"], line["step"]) for line in metrics)
    assert shown == [(rank, step) for rank in range(3) for step in range(1, steps + 1)]
    assert all(line["training_loss"] > 0 for line in metrics)
    assert any(path.suffix == ".pt" for path in (folder / "checkpoints").iterdir())
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    capsule = json.loads((folder / "config.json").read_text())
    assert (capsule["job_id"], capsule["model"], capsule["world_size"]) == ("first_test", "tiny-llama", 3)
    assert [rank["node"] for rank in capsule["ranks"]] == ["gpu-master", "gpu1", "gpu2"]
    assert ugro.job("first_test").status == "completed"
    assert ugro.job("first_test").controller is None
    assert (ugro.data / "experiments" / "first_test.md").exists()
    nothing_is_left(ugro, "first_test")


def test_a_script_gets_its_arguments_as_they_were_given(ugro: Ugro, playbook: Playbook) -> None:
    """By its full name, with no settings of Ansible: what a person has after `pip install`."""
    words = ["say", '{"a": {"b": 1}}', "it's", '"', "$(id)", "`id`", "-x", "ü", "{x}", "a b"]
    said = {"job_tags": "good paper/1", "note": "it's\n$(id)"}
    playbook("ugro.cluster.launch", name="exact", script=str(PLAY), args=words, env={"GREETING": "{'} ${HOME}"}, **said)
    for rank in range(3):
        told = json.loads(ugro.log("exact", rank).splitlines()[0])
        assert (told["rank"], told["world"], told["args"]) == (rank, 3, words[1:])
        assert told["env"]["GREETING"] == "{'} ${HOME}"
    with ugro.store() as store:
        assert (store.tags("exact"), store.note("exact")) == (("good", "paper/1"), said["note"])
    nothing_is_left(ugro, "exact")


def test_a_failing_rank_fails_the_playbook_with_its_last_lines(ugro: Ugro, playbook: Playbook) -> None:
    done = playbook("launch", name="failing", script=str(PLAY), args=["fail", "1"], code=2)
    assert "job failing: rank 1 on gpu1 ended with exit code 1" in done.stdout + done.stderr
    assert "  | RuntimeError: rank 1 has had enough" in done.stdout
    assert ugro.job("failing").status == "failed"
    assert "has had enough" in ugro.log("failing", 1)
    nothing_is_left(ugro, "failing")


def test_a_job_that_is_not_waited_for_is_stopped_and_collected_by_playbook(ugro: Ugro, playbook: Playbook) -> None:
    done = playbook("launch", name="alone", script=str(PLAY), args=["save"], ugro_wait=False)
    assert "job alone runs" in done.stdout
    assert ugro.job("alone").active
    assert "it is " in playbook("ugro.cluster.collect", job="alone", ugro_wait=False, code=2).stdout
    ugro.wait_for_log("alone", "waiting", range(3))
    assert "job alone stopped" in playbook("ugro.cluster.stop", job="alone").stdout
    assert "saved" in ugro.log("alone", 0)
    assert (ugro.folder("alone") / "checkpoints" / "last_0.pt").read_text() == "weights"
    again = playbook("stop", job="alone", force=True)
    assert "had ended already" in again.stdout and "changed=0" in again.stdout
    collected = playbook("collect", job="alone")
    assert "job alone stopped" in collected.stdout and "changed=0" in collected.stdout
    nothing_is_left(ugro, "alone")


def test_a_stopped_job_fails_the_playbook_that_waits_for_it(
    ugro: Ugro, playbook: Playbook, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    waiting = begin("launch", *given({"name": "halted", "script": str(PLAY), "args": ["deaf"]}))
    ugro.wait_for_log("halted", "waiting", range(3))
    playbook("stop", job="halted", force=True)
    assert "job halted: stopped on request" in finish(waiting, 2).stdout
    nothing_is_left(ugro, "halted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_outlives_its_playbook(
    ugro: Ugro, begin: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """However `ansible-playbook` ends, its worker ends too, and another controller takes over."""
    job = f"outlives-{number.name.lower()}"
    process = begin("launch", *given({"name": job, "script": str(PLAY), "args": ["wait"]}))
    ugro.wait_for_log(job, "waiting", range(3))
    controller = ugro.job(job).controller
    assert controller is not None and controller.pid == process.pid
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert ugro.json("status", job, "--json")["status"] in ("starting", "running")
    ugro.wait_for(job, "running")
    wait_until(lambda: (now := ugro.job(job).controller) and now.pid != controller.pid, "another controller")
    assert len(ugro.leftovers(ugro.token(job))) == 3
    ugro.run("stop", job, "--force")
    nothing_is_left(ugro, job)


def test_a_job_stays_on_the_hosts_of_a_limited_play(ugro: Ugro, playbook: Playbook) -> None:
    playbook("launch", "--limit", "gpu1,gpu2", name="limited", script=str(PLAY), args=["say"])
    assert ugro.rank_states("limited") == {0: ("gpu1", "completed"), 1: ("gpu2", "completed")}
    refused = playbook("launch", "--limit", "gpu1", name="outside", script=str(PLAY), include="gpu2", code=2)
    assert "include=gpu2: is not among the hosts of the play" in refused.stdout
    assert ugro.job_or_none("outside") is None


def test_check_mode_shows_the_ranks_and_starts_nothing(ugro: Ugro, playbook: Playbook) -> None:
    done = playbook("launch", "--check", name="checked", script=str(PLAY))
    assert "rank 2  gpu2  CPU" in done.stdout and "nothing was started" in done.stdout
    assert (ugro.jobs(), ugro.busy(), ugro.folder("checked").exists()) == ([], {}, False)


def test_a_node_that_cannot_start_rolls_the_others_back(ugro: Ugro, playbook: Playbook, lab3: Lab) -> None:
    """gpu2 has a file where the folder of its jobs must be."""
    host = lab3.host("gpu2")
    host.run(["sh", "-c", "mkdir -p ~/.ugro/gpu2 && rm -rf ~/.ugro/gpu2/jobs && touch ~/.ugro/gpu2/jobs"])
    try:
        done = playbook("launch", name="half", script=str(PLAY), args=["wait"], code=2)
    finally:
        host.run(["rm", "-f", f"{host.home}/.ugro/gpu2/jobs"])
    assert "job half: gpu2: " in done.stdout + done.stderr
    assert ugro.job("half").status == "failed"
    nothing_is_left(ugro, "half")


def test_what_a_lost_node_has_is_collected_when_it_is_back(ugro: Ugro, playbook: Playbook, lab3: Lab) -> None:
    playbook("launch", name="cut", script=str(PLAY), args=["save"], ugro_wait=False)
    ugro.wait_for_log("cut", "waiting", range(3))
    lab3.host("gpu2").unplug()
    try:
        assert ugro.wait_for("cut", "failed").status == "failed"
        refused = playbook("collect", job="cut", code=2)
        assert "gpu2" in refused.stdout
    finally:
        lab3.host("gpu2").plug()
    done = playbook("collect", job="cut")
    assert "changed=1" in done.stdout
    assert "waiting" in ugro.log("cut", 2)
    assert "changed=0" in playbook("collect", job="cut").stdout
    nothing_is_left(ugro, "cut")


MODULE_PLAY = """
- hosts: ugro_nodes
  gather_facts: false
  tasks:
    - ugro.cluster.job_prepare:
      register: job
      run_once: true

    - ugro.cluster.torchrun: &started
        job: "{{ job.job }}"
        attempt: "{{ job.attempt }}"
        code: "{{ job.code }}"
      check_mode: true
      register: told

    - ugro.cluster.torchrun: *started
      register: first

    - ugro.cluster.torchrun: *started
      register: second

    - ansible.builtin.assert:
        that:
          - told.changed and told.state == 'absent' and told.diff.after.state == 'started'
          - first.changed and first.state == 'started'
          - first.unit == 'ugro-module-1-' ~ inventory_hostname ~ '.service'
          - first.manager == ('system' if ansible_user == 'root' else 'user')
          - not second.changed and second.pid == first.pid and second.state == 'started'
          - "'invocation' not in first"

    - ugro.cluster.torchrun:
        job: module
        state: stopped
        grace: 0
      register: stopped

    - ugro.cluster.torchrun:
        job: module
        state: absent
      register: gone

    - ugro.cluster.torchrun:
        job: module
        state: absent
      register: again

    - ansible.builtin.assert:
        that:
          - stopped.changed and stopped.state == 'stopped' and stopped.left_over == 0
          - gone.changed and gone.state == 'absent'
          - not again.changed
"""


def test_the_module_torchrun_on_real_hosts(ugro: Ugro, tmp_path: Path) -> None:
    """Started twice it starts once; stopped and absent leave nothing; a job nobody stays with waits again."""
    book = tmp_path / "module.yml"
    book.write_text(MODULE_PLAY)
    values = given({"name": "module", "script": str(PLAY), "args": ["wait"]})
    finish(start(ugro, str(book), *values))
    assert ugro.leftovers(ugro.token("module")) == {}
    assert "waits for its turn again" in ugro.json("status", "module", "--json")["reason"]
    ugro.run("stop", "module", "--force")
    assert ugro.json("status", "module", "--json")["status"] == "stopped"
    nothing_is_left(ugro, "module")
