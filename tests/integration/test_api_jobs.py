# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A job over the agent's API from its upload to its results, as programs and other users see it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from tests.integration.support import UGRO, wait_until
from tests.integration.two_users import ALICE, Master, needs_accounts
from ugro_py.api.client import Client, job_path
from ugro_py.queue import spool, spool_tar
from ugro_py.stage import bundle

pytestmark = needs_accounts
pytest_plugins = ["tests.integration.two_users"]

SCRIPT = """
import json, os, sys, time
print("canary", os.environ["CANARY"] == sys.argv[1][::-1], flush=True)
for step in range(1, 6):
    with open(os.environ["UGRO_METRICS_FILE"], "a") as file:
        file.write(json.dumps({"step": step, "training_loss": 6.0 - step}) + chr(10))
    time.sleep(0.1)
"""


def ugro(master: Master, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run `ugro` as root, who reads through the agent: its socket is not in a store of root's own."""
    env = master.env | {"UGRO_DATA": str(master.folder / "no-store")}
    done = subprocess.run([str(UGRO), *arguments], env=env, text=True, capture_output=True, check=False, timeout=120)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


def test_a_job_from_its_upload_to_its_results(master: Master, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(SCRIPT)
    client = Client(master.socket)
    with tempfile.TemporaryFile() as stream:
        spool_tar.pack(spool.Sources(bundle(tmp_path / "code"), {}), stream)
        size = stream.tell()
        stream.seek(0)
        upload = client.upload(stream, size)
    secret = os.urandom(12).hex()
    request = {
        "name": "uploaded", "script": "train.py", "args": [secret[::-1]], "secret_env": ["CANARY"], "nodes": 1,
        "gpus": 1,
    }  # fmt: skip
    assert client.submit(request, upload, {"CANARY": secret})["status"] == "pending"
    wait_until(lambda: client.get(job_path("uploaded"))["status"] != "pending", "the job starts")
    seen = list(client.events(job_path("uploaded", "metrics")))
    assert [message["data"].get("step") for message in seen if message["kind"] == "metrics"] == [1, 2, 3, 4, 5]
    assert seen[-1]["kind"] == "end"
    again = list(client.events(job_path("uploaded", "metrics"), after=seen[2]["id"]))
    assert [message["data"].get("step") for message in again] == [4, 5, None]
    wait_until(lambda: client.get(job_path("uploaded"))["status"] == "completed", "the job has completed")

    assert "canary True" in ugro(master, "logs", "uploaded")
    results = json.loads(ugro(master, "results", "uploaded", "--json"))
    assert (results["status"], results["steps"], results["loss_last"]["loss"]) == ("completed", 5, 1.0)
    assert "uploaded" in ugro(master, "results", "uploaded")
    assert json.loads(ugro(master, "status", "uploaded", "--json"))["status"] == "completed"
    assert "uploaded" in ugro(master, "ps") and "here" in ugro(master, "state")
    assert "completed" in ugro(master, "events", "--job", "uploaded")
    assert "uploaded" in ugro(master, "usage") and "submit" in ugro(master, "users", "log")
    assert ugro(master, "stop", "uploaded").startswith("job uploaded had ended already")
    wait_until(lambda: client.get("/v1/health"), "the sweep has looked at it")
    assert json.loads(ugro(master, "nodes", "ls", "--json"))["nodes"][0]["name"] == "here"
    health = json.loads(ugro(master, "health", "--json", codes=(0, 5)))["nodes"]["here"]
    assert health["state"] != "unknown" and health["summary"] and health["at"]
    ugro(master, "pull", "uploaded", str(tmp_path / "pulled"))
    assert "canary True" in (tmp_path / "pulled" / "logs" / "rank_0.log").read_text()
    wait_until(lambda: "sweep" in client.get("/v1/agent")["loops"], "the sweep's time")
    assert not (master.folder / "no-store").exists(), "nothing was read here"
    files = {entry["path"] for entry in master.ask(ALICE, "GET", "/v1/jobs/uploaded/files")[1]}
    assert {"metrics.jsonl", "logs/rank_0.log"} <= files

    found = subprocess.run(["grep", "-rlaF", secret, str(master.folder)], capture_output=True, text=True, check=False)
    assert found.stdout == "", "the secret is in a file"
