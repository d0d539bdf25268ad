# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Where an agent runs, `ugro launch`, `resume` and `rerun` hand it the job and follow it through the API."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.integration.agents import running_agent
from tests.integration.support import PLAY, SCRIPTS, Ugro, finish, interrupt, wait_until

pytestmark = [pytest.mark.slow]


def test_launch_wait_detach_resume_and_rerun(make_ugro: Callable[..., Ugro], here: Path, tmp_path: Path) -> None:
    ugro = make_ugro(here)
    script = tmp_path / "code" / "mine.py"
    script.parent.mkdir()
    script.write_text("print('as submitted')\n")
    with running_agent(ugro) as agent:
        wait_until((ugro.data / "agent.sock").exists, "the agent's door is open")
        said = ("--tag", "by-agent", "--note", "why it runs")
        ugro.run("launch", "-d", "--name", "first", *said, "--script", PLAY, "--", "wait")
        assert ugro.json("results", "note", "first", "--json")["text"] == "why it runs"
        assert ugro.json("results", "ls", "--json")["experiments"][0]["tags"] == ["by-agent"]
        ugro.wait_for("first", "running")
        assert ugro.job("first").controller.pid == agent.pid
        second = ugro.start("launch", "--name", "second", "--script", script)
        wait_until(lambda: (job := ugro.job_or_none("second")) and "first" in job.reason, "second waits for first")
        script.write_text("print('edited since')\n")
        interrupt(second)
        assert "detached" in finish(second).stderr
        refused = ugro.run("launch", "--no-wait", "--name", "hasty", "--script", PLAY, "--", "say", code=6)
        assert "behind job second" in refused.stderr and "--no-wait" in refused.stderr
        assert (ugro.job("hasty").status, ugro.job("hasty").started_at) == ("stopped", None)
        held = ugro.start("launch", "--name", "third_in_line", "--script", PLAY, "--", "say")
        wait_until(lambda: ugro.job_or_none("third_in_line"), "it is in the queue")
        ugro.run("stop", "third_in_line")
        assert "cancelled by" in finish(held, 10, 30).stderr
        ugro.run("stop", "first")
        assert ugro.wait_for("second", "completed", "failed").status == "completed"
        assert ugro.log("second", 0) == "as submitted\n"

        told = ugro.run("launch", "--name", "broken", "--script", SCRIPTS / "fails_once.py", "--", 0.1, code=7)
        assert "rank 1 on gpu1 ended with exit code 3" in told.stderr
        resumed = ugro.json("resume", "broken", "--json")
        assert (resumed["job"], resumed["status"], resumed["exit_code"]) == ("broken", "completed", 0)
        assert ugro.log("broken", 0).startswith("rank 0 attempt 2 begins at step 4")
        again = ugro.json("rerun", "second", "--name", "third", "--json")
        assert again["status"] == "completed"
        assert ugro.log("third", 0) == "as submitted\n"
    assert ugro.busy() == {}


# A checkpoint on SIGTERM, as training that knows preemption writes it; who goes on from one completes.
STEADY = """
import json, os, signal, sys, time
folder, rank, resume = os.environ["UGRO_CHECKPOINT_DIR"], os.environ["RANK"], os.environ["UGRO_RESUME_FROM"]
step = json.load(open(resume))["step"] if resume else 0
begun, over = step, []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
print("begins after step %d" % step, flush=True)
while not over and not (resume and step >= begun + 3):
    step += 1
    print("step %d loss=%.3f" % (step, 1 / step), flush=True)
    time.sleep(0.1)
if over:
    path = os.path.join(folder, "step_%d.pt" % step)
    text = json.dumps({"step": step})
    for name, content in ((path, text), (path + ".json", json.dumps(
            {"complete": True, "step": step, "size": len(text)}))):
        with open(name + ".new", "w") as file:
            file.write(content)
        os.rename(name + ".new", name)
    sys.exit(143)
"""


def known_gpus(ugro: Ugro) -> list[str]:
    """Return the GPUs that the store knows."""
    with ugro.store() as store:
        return [gpu.uuid for gpu in store.gpus()]


def test_an_urgent_job_goes_first_and_the_other_goes_on_from_its_checkpoint(
    make_ugro: Callable[..., Ugro], here: Path, tmp_path: Path
) -> None:
    inventory = yaml.safe_load(here.read_text())
    inventory["ugro_nodes"]["vars"]["ugro_queue"] = {"preemption": True}
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    inventory["ugro_nodes"]["vars"]["ugro_health"] = {"interval_s": 600}  # the sweep is not to see what breaks below
    inventory["ugro_nodes"]["hosts"]["gpu2"] = {"ugro_python": str(bare / "bin" / "python")}
    torch = Path(next(bare.glob("lib/python3*/site-packages"))) / "torch.pth"
    torch.write_text(sysconfig.get_path("purelib"))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
    ugro = make_ugro(tmp_path / "hosts.yml")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "steady.py").write_text(STEADY)
    with running_agent(ugro):
        wait_until((ugro.data / "agent.sock").exists, "the agent's door is open")
        wait_until(lambda: len(known_gpus(ugro)) == 3, "the agent knows every GPU")
        # What a launch without an agent says of a node that is not ready, it says with one.
        torch.unlink()
        hasty = ("launch", "--no-wait", "--name", "unfit", "--include", "gpu2", "--script", PLAY, "--", "say")
        told = ugro.run(*hasty, code=5).stderr
        ugro.env_more = {"UGRO_DATA": str(tmp_path / "alone")}
        alone = ugro.run(*hasty, code=5).stderr
        ugro.env_more = {}
        assert "has no torch" in alone and told == alone.replace("ugro: ", "ugro: job unfit: ", 1)
        assert ugro.job("unfit").status == "failed"
        low = ugro.start("launch", "--name", "low", "--priority", "batch", "--exclude", "gpu2",
                         "--script", tmp_path / "code" / "steady.py")  # fmt: skip
        ugro.wait_for_log("low", "step 2 ", [0, 1])
        urgent = ugro.run("launch", "--name", "now", "--priority", "urgent", "--exclude", "gpu2",
                          "--script", PLAY, "--", "say")  # fmt: skip
        assert "verified 2 nodes" in urgent.stdout and "started 2 ranks on gpu-master, gpu1" in urgent.stdout
        shown = finish(low).stdout
    assert "made room for now" in shown and "goes on from step_" in shown
    assert (ugro.job("low").status, ugro.job("low").preempted) == ("completed", 1)
    with ugro.store() as store:
        first, second, other = store.attempt("low", 1), store.attempt("low", 2), store.attempt("now")
    assert first is not None and second is not None and other is not None
    assert first.ended_at <= other.started_at <= other.ended_at <= second.started_at  # type: ignore[operator]
    step = int(ugro.log("low", 0).partition("begins after step ")[2].split()[0])
    before = (ugro.folder("low") / "attempts" / "1" / "rank_0.log").read_text()
    assert step >= 2 and before.rstrip().endswith(f"step {step} loss={1 / step:.3f}")
    assert ugro.busy() == {}
