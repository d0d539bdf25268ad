# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a person may type after -e: templates never run, bad values are one line, and nothing is half-made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.support import PLAY, Ugro
from ugro_py import paths
from ugro_py.playbook_values import LAUNCH
from ugro_py.runner import environment

ANSIBLE_PLAYBOOK = Path(sys.prefix) / "bin" / "ansible-playbook"

Refused = Callable[..., str]


@pytest.fixture
def refused(ugro_here: Ugro) -> Iterator[Refused]:
    """Run a playbook that must fail, and return its one message; no job and no allocation may come of it."""

    def run(name: str, *options: str, inventory: Path | None = None) -> str:
        done = subprocess.run(
            [str(ANSIBLE_PLAYBOOK), str(paths.playbook(name)), "-i", str(inventory or paths.embedded_inventory())]
            + [word for option in options for word in ("-e", option)],
            env={**ugro_here.env, **environment()}, cwd=ugro_here.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        messages = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if "Action failed: " in line]
        assert len(messages) == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert not (ugro_here.data / "jobs").exists()
        assert ugro_here.job_or_none("x") is None
        return messages[0].partition("Action failed: ")[2]

    yield run


def touching(canary: Path) -> str:
    """Return a template that makes the file if anything ever runs it."""
    return '{{ lookup("pipe", "touch ' + str(canary) + '") }}'


@pytest.mark.parametrize(
    ("key", "form"), [("name", "text"), ("dataset", "json"), ("epochs", "text"), ("ugro_wait", "json")]
)
def test_a_template_never_runs(refused: Refused, tmp_path: Path, key: str, form: str) -> None:
    canary = tmp_path / "canary"
    template = touching(canary)
    said = refused("launch", f"{key}='{template}'" if form == "text" else json.dumps({key: template}))
    assert said.startswith(f"-e {key}=") and "is a template, which is never run" in said
    assert not canary.exists()


def test_no_value_at_all_is_run_on_the_way(refused: Refused, tmp_path: Path) -> None:
    """Every value of every kind at once: whatever Ansible itself looks at first, it must not run one of them."""
    everything = {}
    for key in (*LAUNCH, "ugro_wait", "job", "force"):
        template = touching(tmp_path / f"canary_{key}")
        everything[key] = {"args": [template], "env": {"A": template}, "include": [[template]]}.get(key, template)
    for book in ("launch", "collect", "stop"):
        assert "is a template, which is never run" in refused(book, json.dumps(everything))
    assert not list(tmp_path.glob("canary*"))


@pytest.mark.parametrize("book", ["collect", "stop"])
def test_a_template_never_runs_as_the_name_of_a_job(refused: Refused, tmp_path: Path, book: str) -> None:
    canary = tmp_path / "canary"
    assert "-e job=" in refused(book, json.dumps({"job": touching(canary)}))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["name=../x"], "job name '../x': is not a valid name"),
        (["name='a;rm -rf $(id)'"], "job name 'a;rm -rf $(id)': is not a valid name"),
        (["epochs=0"], "must be at least 1"),
        (["nodes=4"], "the cluster has 3"),
        (["epoch=2"], "did you mean epochs?"),
        (["tags=good"], "did you mean job_tags?"),
        (["note=from playbook x"], "-e … playbook x: belongs to no name"),
        (["model=no-such-model"], "unknown model"),
        (["dataset=no-such-data"], "the hub cannot be reached"),
        (["script=/no/such.py"], "there is no such file"),
        ([f"script={PLAY}", "model=tiny-llama"], "is for UGRO's own training"),
    ],
)
def test_a_bad_value_is_one_line(refused: Refused, options: list[str], text: str) -> None:
    assert text in refused("launch", *options)


def test_a_job_that_is_not_there_is_one_line(refused: Refused) -> None:
    assert "-e job=NAME: is missing" in refused("stop")
    assert "'nobody'" in refused("collect", "job=nobody")


def test_an_inventory_without_nodes_fails_the_launch(refused: Refused, tmp_path: Path) -> None:
    """A play that matches no hosts would end with exit code 0."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {somebody: {ansible_connection: local}}}\n")
    assert "has no group ugro_nodes with hosts" in refused("launch", inventory=inventory)
