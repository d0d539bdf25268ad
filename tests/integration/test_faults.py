# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while a job runs: the gang is stopped whole, the cause is named, nothing is left anywhere."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.support import PLAY, SCRIPTS, Ugro, edited, finish, ranks_on, torchruns_on, wait_until
from tests.lab import Host, Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]

# The limits of the specification; a machine that is busy with other things gets a margin.
RANK_LIMIT_S, NODE_LIMIT_S, MARGIN = 2.0, 8.0, 2.0
TWO = ("--include", "gpu1", "--include", "gpu2")


def started(ugro: Ugro, job: str, ranks: int, *words: object, script: Path = PLAY) -> subprocess.Popen[str]:
    """Start `ugro launch` and wait until every rank says that it waits."""
    process = ugro.start("launch", "--name", job, "--script", script, *words)
    ugro.wait_for_log(job, "waiting", range(ranks))
    return process


def assert_clean(ugro: Ugro, job: str) -> None:
    """Nothing of the job lives on any host, and nothing is allocated."""
    assert ugro.busy() == {}
    assert ugro.leftovers(ugro.token(job)) == {}


def test_a_killed_rank_takes_the_whole_gang_with_it_within_two_seconds(
    ugro: Ugro, lab3: Lab, record_property: Callable[[str, object], None]
) -> None:
    process = started(ugro, "killed", 3, "--", "wait")
    token = ugro.token("killed")
    host = lab3.host("gpu1")
    victim = ranks_on(host, token)[1]
    begin = time.monotonic()
    host.kill([victim])
    wait_until(lambda: not ugro.leftovers(token), "every process of the gang is gone", 30, every_s=0.01)
    gone = time.monotonic() - begin
    ended = finish(process, code=7)
    reported = time.monotonic() - begin
    print(f"rank killed: gang gone after {gone:.2f} s, `ugro launch` ended after {reported:.2f} s")
    record_property("gang_gone_s", round(gone, 2))
    record_property("reported_s", round(reported, 2))
    assert "rank 1 on gpu1 was killed by SIGKILL" in ended.stderr
    assert max(gone, reported) < RANK_LIMIT_S * MARGIN
    assert_clean(ugro, "killed")
    status = ugro.json("status", "killed", "--json")
    assert (status["status"], status["first_failed_rank"], status["exit_code"]) == ("failed", 1, -9)
    assert {rank["rank"]: rank["status"] for rank in status["ranks"]} == {0: "stopped", 1: "failed", 2: "stopped"}


def test_a_script_that_raises_is_shown_with_its_rank_and_last_lines(ugro: Ugro) -> None:
    result = ugro.run("launch", "--name", "raised", "--script", PLAY, *TWO, "--json", "--", "fail", 1, code=7)
    answer = json.loads(result.stdout)
    assert (answer["first_failed_rank"], answer["exit_code"], answer["status"]) == (1, 1, "failed")
    assert answer["last_lines"][-1] == "RuntimeError: rank 1 has had enough"
    assert "rank 1 on gpu2 ended with exit code 1" in result.stderr
    assert_clean(ugro, "raised")
    assert {state for _node, state in ugro.rank_states("raised").values()} == {"stopped", "failed"}


@pytest.mark.torch
def test_a_rank_that_never_comes_to_the_collective_is_noticed_by_the_stall_timeout(ugro: Ugro) -> None:
    words = ("--stall-timeout", 20, *TWO)
    result = ugro.run("launch", "--name", "stuck", "--script", SCRIPTS / "stuck.py", *words, code=7)
    assert "no rank wrote anything for 20 s" in result.stderr
    assert all("in the group" in ugro.log("stuck", rank) for rank in (0, 1))
    assert_clean(ugro, "stuck")


def test_ranks_do_not_outlive_their_torchrun(ugro: Ugro, lab3: Lab) -> None:
    process = started(ugro, "agent", 2, *TWO, "--", "deaf")
    host = lab3.host("gpu2")
    (agent,) = torchruns_on(host, ugro.token("agent"))
    host.kill([agent])
    ended = finish(process, code=7)
    assert "gpu2" in ended.stderr
    assert_clean(ugro, "agent")


def test_a_supervisor_that_was_told_to_end_by_somebody_else_is_a_failure(ugro: Ugro, lab3: Lab) -> None:
    """A reboot, `systemctl stop` or `kill`: whatever its ranks made of it, the job has not completed."""
    process = started(ugro, "rebooted", 1, "--include", "gpu1", "--", "save")
    events = (ugro.folder("rebooted") / "attempts" / "1" / "gpu1.events.jsonl").read_text().splitlines()
    lab3.host("gpu1").run(["kill", str(json.loads(events[0])["pid"])])
    ended = finish(process, code=7)
    assert "the ranks on gpu1 were stopped: signal 15" in ended.stderr
    assert "saved" in ugro.log("rebooted", 0)
    assert (ugro.folder("rebooted") / "checkpoints" / "last_0.pt").is_file()
    assert_clean(ugro, "rebooted")


def test_an_unplugged_node_is_reported_and_the_others_are_freed(ugro: Ugro, lab3: Lab) -> None:
    process = started(ugro, "cut", 3, "--", "wait")
    token, host = ugro.token("cut"), lab3.host("gpu2")
    begin = time.monotonic()
    host.unplug()
    try:
        ended = finish(process, code=7)
        reported = time.monotonic() - begin
        print(f"node unplugged: `ugro launch` ended after {reported:.2f} s")
        assert "node gpu2 was lost" in ended.stderr
        assert reported < NODE_LIMIT_S * MARGIN
        assert ugro.busy() == {}
        assert set(ugro.leftovers(token)) <= {"gpu2"}
        assert {rank: state for rank, (_node, state) in ugro.rank_states("cut").items()} == {
            0: "stopped", 1: "stopped", 2: "lost",
        }  # fmt: skip
    finally:
        host.plug()
    # The node found out by itself, or is told at the next contact.
    ugro.run("launch", "--name", "again", "--script", PLAY, "--include", "gpu2", "--", "say")
    wait_until(lambda: not ugro.leftovers(token), "the node that came back has ended its ranks", 30)
    assert ugro.busy() == {}


def test_of_two_attempts_one_lives_when_the_node_of_the_first_comes_back(ugro: Ugro, lab3: Lab) -> None:
    process = started(ugro, "back", 3, "--retry", 1, "--min-nodes", 2, "--", "wait")
    first, host = ugro.token("back"), lab3.host("gpu2")
    both = {"gpu-master", "gpu1"}
    host.unplug()
    try:
        gang = ugro.folder("back") / "attempts" / "2" / "gang.json"
        wait_until(lambda: gang.exists() and set(ugro.leftovers(ugro.token("back", 2))) >= both, "attempt 2 runs", 60)
        wait_until(lambda: ugro.job("back").status == "running", "and is known to")
        assert set(ugro.leftovers(first)) <= {"gpu2"}, "where the first could be reached it was ended before"
    finally:
        host.plug()
    wait_until(lambda: not ugro.leftovers(first), "what the node still ran of the first is ended", 60)
    assert set(ugro.leftovers(ugro.token("back", 2))) == both, "the second goes on"
    ugro.run("stop", "back", "--force")
    finish(process, code=10)
    assert {rank: node for rank, (node, _state) in ugro.rank_states("back").items()} == {0: "gpu-master", 1: "gpu1"}
    assert_clean(ugro, "back")


def test_a_cut_shorter_than_the_limit_costs_nothing(ugro: Ugro, lab3: Lab) -> None:
    process = ugro.start("launch", "--name", "blink", "--script", PLAY, *TWO, "--", "steps", 60, 0.1)
    ugro.wait_for_log("blink", "step 2 ", (0, 1))
    host = lab3.host("gpu2")
    host.unplug()
    # What is tested is the length of the cut: silent long enough to be suspected. TCP sends again after 3 s, and then
    # only after 6: the plug must be in by then, also on a machine that takes long to put it in.
    time.sleep(2.5)
    host.plug()
    finish(process)
    for rank in (0, 1):
        assert [line.split()[1] for line in ugro.log("blink", rank).splitlines()] == [str(n) for n in range(1, 61)]
    assert_clean(ugro, "blink")


def test_a_failed_attempt_is_tried_again_and_a_flood_of_lines_arrives_whole(ugro: Ugro) -> None:
    alone = ("--include", "gpu1", "--script", PLAY)
    ugro.run("launch", "--name", "healed", "--retry", 2, *alone, "--", "heal")
    assert ugro.log("healed", 0) == "attempt 2\n"
    status = ugro.json("status", "healed", "--json")
    assert (status["status"], status["attempt"]) == ("completed", 2)
    assert_clean(ugro, "healed")

    ugro.run("launch", "--name", "flood", *alone, "--", "flood", 60)
    lines = ugro.log("flood", 0).splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(60_000))


@contextmanager
def small_disk(host: Host, megabytes: int) -> Iterator[str]:
    """A small disk of its own for UGRO's folder on the host."""
    path = f"{host.home}/small"
    host.small_disk(path, megabytes)
    try:
        yield path
    finally:
        host.enter(["umount", "-l", path])


def test_a_full_disk_is_refused_before_and_stops_the_gang_during_a_job(
    make_ugro: Callable[..., Ugro], lab3: Lab
) -> None:
    host = lab3.host("gpu1")
    with small_disk(host, 1200) as path:
        inventory = edited(lab3, "small.yml", lambda hosts: hosts["gpu1"].update(ugro_node_dir=path))
        ugro = make_ugro(inventory, lab3)
        ended = ugro.run(
            "launch", "--name", "filled", "--script", PLAY, "--include", "gpu-master", "--include", "gpu1",
            "--", "fill", code=7,
        )  # fmt: skip
        assert "rank 1 on gpu1" in ended.stderr
        assert "is full" in ended.stderr  # the log of the rank is on the same disk and cannot tell
        assert_clean(ugro, "filled")

        host.fill_disk(path, leave_kilobytes=300)
        refused = ugro.run("launch", "--name", "refused", "--script", PLAY, "--include", "gpu1", code=5)
        assert "gpu1" in refused.stderr and "GB free at" in refused.stderr
        assert ugro.job_or_none("refused") is None
        assert ugro.busy() == {}


def test_a_busy_master_port_is_passed_over(ugro: Ugro, lab3: Lab) -> None:
    host = lab3.host("gpu-master")
    planned = ("launch", "--dry-run", "--json", "--script", PLAY)
    port = int(ugro.json(*planned)["master"].rpartition(":")[2])
    assert port in range(29500, 29600)
    listen = f"import socket, sys; s = socket.create_server(('', {port})); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [*host.ssh_command("-T"), f'/usr/bin/python3 -c "{listen}"'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as listener:  # fmt: skip
        assert listener.stdout and listener.stdout.readline() == "ready\n"
        plan = ugro.json(*planned)
    assert plan["master"] == f"{host.address}:{29500 + (port + 1 - 29500) % 100}"


def test_versions_that_differ_between_nodes_are_refused_with_the_difference(
    make_ugro: Callable[..., Ugro], lab3: Lab
) -> None:
    host = lab3.host("gpu2")
    fake = f"{host.home}/other"
    site = f"{fake}/lib/python3.11/site-packages/torch-1.13.1.dist-info"
    script = f"mkdir -p {site} {fake}/bin && ln -sf /usr/bin/python3 {fake}/bin/python"
    host.run(["sh", "-c", f"{script} && echo 'version = 3.11.7' > {fake}/pyvenv.cfg"])
    inventory = edited(lab3, "versions.yml", lambda hosts: hosts["gpu2"].update(ugro_python=f"{fake}/bin/python"))
    ugro = make_ugro(inventory, lab3)
    refused = ugro.run("launch", "--name", "mixed", "--script", PLAY, code=5).stderr
    assert "torch" in refused and "1.13.1" in refused and "gpu2" in refused
    assert ugro.jobs() == []
    assert ugro.busy() == {}


def test_daemons_and_deaf_ranks_leave_nothing_behind(ugro: Ugro) -> None:
    """Double fork, setsid and signals ignored: swept when the job ends by itself, and when it is stopped by force."""
    alone = ("--include", "gpu1", "--script", PLAY)
    ugro.run("launch", "--name", "daemons", *alone, "--", "daemonise", "end")
    assert "daemon started" in ugro.log("daemons", 0)
    assert ugro.job("daemons").status == "completed"
    assert_clean(ugro, "daemons")
    finished = (ugro.folder("daemons") / "attempts" / "1" / "gpu1.events.jsonl").read_text().splitlines()[-1]
    assert json.loads(finished)["swept"] == 1

    ugro.run("launch", "-d", "--name", "deaf", *alone, "--", "deaf")
    ugro.wait_for_log("deaf", "waiting", [0])
    begin = time.monotonic()
    ugro.run("stop", "deaf", "--force")
    took = time.monotonic() - begin
    print(f"stop --force of a rank that ignores SIGTERM: {took:.2f} s")
    assert took < 8  # without --force it would have got 10 s to save its work
    assert ugro.job("deaf").status == "stopped"
    assert_clean(ugro, "deaf")
