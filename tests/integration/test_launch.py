# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro launch` and the verbs around it, on real hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import PLAY, Ugro, finish, interrupt, wait_until
from tests.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SEED_FIELDS = {
    "timestamp", "job_id", "rank", "step", "gpu_util", "gpu_mem_used_gb", "training_loss", "throughput_tokens_sec",
    "gradient_norm", "learning_rate",
}  # fmt: skip


def said(ugro: Ugro, job: str, ranks: int) -> list[dict[str, Any]]:
    """Return what each rank of `play.py say` told."""
    return [json.loads(ugro.log(job, rank).splitlines()[0]) for rank in range(ranks)]


@pytest.mark.torch
def test_one_command_trains_on_every_node_and_leaves_the_store_complete(ugro: Ugro, tmp_path: Path) -> None:
    """Users root, ob and ollie, two of them without any rights, one SSH port of its own: all as the lab has it."""
    steps = 3
    ugro.run(
        "launch",
        "--nodes",
        3,
        "--epochs",
        1,
        "--name",
        "first_test",
        "--",
        "--max-steps",
        steps,
        "--seq-len",
        32,
        timeout_s=280,
    )
    folder = ugro.folder("first_test")

    assert sorted(path.name for path in (folder / "logs").glob("rank_*.log")) == [f"rank_{n}.log" for n in range(3)]
    assert "loss" in ugro.log("first_test", 0)
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(set(line) >= SEED_FIELDS for line in metrics)
    assert {line["job_id"] for line in metrics} == {"first_test"}
    shown = sorted((line["rank"], line["step"]) for line in metrics)
    assert shown == [(rank, step) for rank in range(3) for step in range(1, steps + 1)]
    losses = [line["training_loss"] for line in metrics if line["rank"] == 0]
    assert losses[-1] < losses[0]
    assert any(path.suffix == ".pt" for path in (folder / "checkpoints").iterdir())
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    capsule = json.loads((folder / "config.json").read_text())
    assert json.dumps(capsule).count("gpu-master") and "tiny-llama" in json.dumps(capsule)

    status = ugro.json("status", "first_test", "--json")
    assert (status["status"], status["exit_code"]) == ("completed", 0)
    assert [(rank["rank"], rank["node"], rank["status"]) for rank in status["ranks"]] == [
        (0, "gpu-master", "completed"), (1, "gpu1", "completed"), (2, "gpu2", "completed"),
    ]  # fmt: skip
    assert all(rank["metrics"]["step"] == steps for rank in status["ranks"])
    assert status["sync_window_s"] is not None
    listed = ugro.json("ps", "--json")
    assert [(job["job"], job["status"], job["ranks"]) for job in listed] == [("first_test", "completed", 3)]
    lines = ugro.run("logs", "first_test", "--rank", 0, "--json").stdout.splitlines()
    assert {json.loads(line)["rank"] for line in lines} == {0}
    results = ugro.json("results", "first_test", "--json")
    assert results["loss_last"] == {"step": steps, "loss": losses[-1]}
    assert Path(results["checkpoint"]).is_file()
    pulled = ugro.json("pull", "first_test", tmp_path / "pulled", "--json")
    assert pulled["files"] > 10
    assert (tmp_path / "pulled" / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert {job["status"] for job in ugro.json("state", "--json")["jobs"].values()} == {"completed"}
    for verb in ("status", "logs", "results"):  # the same for people
        assert ugro.run(verb, "first_test").stdout.strip()
    assert ugro.busy() == {}
    assert ugro.leftovers(ugro.token("first_test")) == {}


def test_a_fourth_host_is_one_more_entry_and_nodes_may_have_more_slots(
    make_lab: Callable[..., Lab], make_ugro: Callable[..., Ugro]
) -> None:
    lab = make_lab(4, users="mixed")
    ugro = make_ugro(lab.inventory_file(slots={"gpu-master": 2}), lab)
    ugro.run("launch", "--script", PLAY, "--name", "four", "--", "say", timeout_s=200)
    ranks = {rank: node for rank, (node, _status) in ugro.rank_states("four").items()}
    assert ranks == {0: "gpu-master", 1: "gpu-master", 2: "gpu1", 3: "gpu2", 4: "gpu3"}
    assert [(line["rank"], line["world"]) for line in said(ugro, "four", 5)] == [(rank, 5) for rank in range(5)]


def test_what_is_selected_is_shown_by_a_dry_run_which_leaves_nothing(make_ugro: Callable[..., Ugro], lab3: Lab) -> None:
    ugro = make_ugro(lab3.inventory_file("uneven.yml", slots={"gpu-master": 2}), lab3)
    canary = ugro.home / "canary"

    def ranks(*options: object) -> list[tuple[int, str, str]]:
        plan = ugro.json(
            "launch", "--dry-run", "--json", "--name", "dry", "--script", PLAY, *options, "--", f"$(touch {canary})"
        )
        assert all(words[-1] == f"$(touch {canary})" for commands in plan["commands"].values() for words in commands)
        return [(rank["rank"], rank["node"], rank["gpu"]) for rank in plan["ranks"]]

    m0, m1, n1, n2 = (
        ("gpu-master", "CPU-gpu-master-0"), ("gpu-master", "CPU-gpu-master-1"), ("gpu1", "CPU-gpu1-0"),
        ("gpu2", "CPU-gpu2-0"),
    )  # fmt: skip
    for options, expected in (
        ((), [m0, m1, n1, n2]),
        (("--include", "gpu-master:0,1", "--include", "gpu2"), [m0, m1, n2]),
        (("--exclude", "gpu-master:0", "--exclude", "gpu2"), [m1, n1]),
        (("--gpus", 2, "--nodes", 1), [m0, m1]),
    ):
        assert ranks(*options) == [(rank, *place) for rank, place in enumerate(expected)], options
    text = ugro.run("launch", "--dry-run", "--name", "dry", "--script", PLAY).stdout
    assert "rank 3  gpu2" in text and "torch.distributed.run" in text and "nothing was started" in text
    assert not canary.exists()
    assert ugro.jobs() == []
    assert ugro.busy() == {}
    assert not ugro.folder("dry").exists()
    for host in lab3.hosts:
        assert host.run(["sh", "-c", f"ls -d ~/.ugro/{host.name}/jobs/dry"], check=False).returncode != 0


def test_a_script_gets_its_arguments_environment_and_folder_and_its_losses_become_metrics(
    ugro: Ugro, tmp_path: Path
) -> None:
    project = tmp_path / "my project"
    (project / "bin").mkdir(parents=True)
    (project / "bin" / "train.py").write_text(
        "import runpy, sys\n"
        "play = runpy.run_path('play.py')\n"
        "print(open('data.txt').read())\n"
        "play['say'](*sys.argv[1:])\n"
        "play['steps']('3', '0')\n"
    )
    (project / "play.py").write_text(PLAY.read_text())
    (project / "data.txt").write_text("from the folder")
    arguments = ["two words", "--lr=1e-3", "{{ lookup('pipe', 'id') }}", "$(id)", "'"]
    ugro.run(
        "launch", "--script", "bin/train.py", "--workdir", project, "--include", "gpu1", "--include", "gpu2",
        "--name", "mine", "--env", "GREETING=hello $HOME", "--", *arguments,
    )  # fmt: skip
    for rank in (0, 1):
        first, second, *_rest = ugro.log("mine", rank).splitlines()
        assert first == "from the folder"
        told = json.loads(second)
        assert told["args"] == arguments
        assert told["env"]["GREETING"] == "hello $HOME"
        assert told["env"]["UGRO_JOB_ID"] == "mine"
        assert told["env"]["GLOO_SOCKET_IFNAME"] == "host0"
    lines = [json.loads(line) for line in (ugro.folder("mine") / "metrics.jsonl").read_text().splitlines()]
    assert sorted((line["rank"], line["step"], line["training_loss"]) for line in lines) == [
        (rank, step, round(1 / step, 4)) for rank in (0, 1) for step in (1, 2, 3)
    ]


def test_detach_follow_refuse_and_stop(ugro: Ugro) -> None:
    one = ("--include", "gpu1")
    answer = ugro.json("launch", "-d", "--json", "--name", "long", "--script", PLAY, *one, "--", "save")
    assert (answer["job_id"], answer["ranks"]) == ("long", 1)
    assert (ugro.folder("long") / "config.json").is_file()
    ugro.wait_for_log("long", "waiting", [0])
    assert ugro.busy() == {"CPU-gpu1-0": "long"}
    follower = ugro.start("logs", "long", "-f")
    taken = ugro.run("launch", "--no-wait", "--name", "late", "--script", PLAY, *one, "--", "say", code=6).stderr
    assert taken.count("\n") == 1 and "long" in taken
    assert "long" in ugro.run("launch", "--name", "long", "--script", PLAY, *one, "--", "say", code=2).stderr
    assert [job.name for job in ugro.jobs()] == ["long"]

    assert ugro.json("stop", "long", "--json") == {
        "job": "long",
        "job_id": "long",
        "status": "stopped",
        "changed": True,
    }
    assert "saved" in finish(follower).stdout
    assert (ugro.folder("long") / "checkpoints" / "last_0.pt").read_text() == "weights"
    assert ugro.busy() == {}
    assert ugro.leftovers(ugro.token("long")) == {}
    assert ugro.json("stop", "long", "--json")["changed"] is False
    assert ugro.json("status", "long", "--json")["status"] == "stopped"


def test_ctrl_c_detaches_and_the_job_goes_on_to_its_end(ugro: Ugro) -> None:
    process = ugro.start("launch", "--name", "on", "--script", PLAY, "--include", "gpu2", "--", "steps", 30, 0.1)
    ugro.wait_for_log("on", "step 2 ", [0])
    interrupt(process)
    said_last = finish(process).stderr
    assert "detached" in said_last and "ugro status on" in said_last
    assert ugro.json("status", "on", "--json")["status"] in ("running", "collecting", "completed")
    job = ugro.wait_for("on", "completed", "failed", "stopped")
    assert (job.status, job.reason) == ("completed", "")
    wait_until(lambda: ugro.job("on").controller is None, "the controller in the background has ended")
    assert "step 30 " in ugro.log("on", 0)
    metrics = (ugro.folder("on") / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == list(range(1, 31))
    assert ugro.busy() == {}


def test_a_reader_that_goes_away_does_not_end_the_job(ugro: Ugro) -> None:
    """`ugro launch | head -1`: the terminal of the command is gone, the job is not."""
    command = f"{ugro.start('--version').args[0]} -i {ugro.inventory} launch --name piped --include gpu1"
    shell = subprocess.Popen(
        ["sh", "-c", f"{command} --script {PLAY} -- steps 10 0.1 | head -1"],
        env=ugro.env, cwd=ugro.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        shell.communicate(timeout=120)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
    ugro.run("status", "piped")
    assert ugro.wait_for("piped", "completed", "failed", "stopped").status == "completed"
    assert ugro.busy() == {}
