# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What cannot be done is refused with one clear line and a documented exit code, and leaves nothing behind."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import PLAY, SCRIPTS, Ugro, edited
from tests.lab import Lab

USAGE, INVENTORY, NODE, ALLOCATION, NOT_FOUND = 2, 3, 4, 6, 8
SCRIPT = ("--script", str(PLAY))

NAMES = (
    "../x", "a;rm -rf", "$(touch canary)", "`touch canary`", "-oProxyCommand=touch canary", "", ".", "..", "a..b",
    "a/b", "{{lookup('pipe','touch canary')}}", "n" * 300, "jöb", "Job", "a b", "a\nb", "<script>",
)  # fmt: skip

# Options of `ugro launch`, the exit code, and a word that the one line must hold.
LAUNCHES: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("--model", "no-such-model"), USAGE, "no-such-model"),
    (("--model", "{{lookup('pipe','touch canary')}}"), USAGE, "--model"),
    (("--model", "nobody/nothing"), USAGE, "nobody/nothing"),
    (("--model", ""), USAGE, "--model"),
    (("--model", str(SCRIPTS)), USAGE, "config.json"),
    (("--dataset", "no-such-data-set"), USAGE, "no-such-data-set"),
    (("--dataset", "./missing.txt"), USAGE, "missing.txt"),
    (("--dataset", "-oProxyCommand=touch canary"), USAGE, "--dataset"),
    (("--epochs", "0"), USAGE, "--epochs"),
    (("--epochs", "-3"), USAGE, "--epochs"),
    (("--epochs", "1.5"), USAGE, "1.5"),
    (("--epochs", "many"), USAGE, "many"),
    (("--batch-size", "0"), USAGE, "--batch-size"),
    (("--gradient-accumulation", "-1"), USAGE, "--gradient-accumulation"),
    (("--nodes", "0", *SCRIPT), USAGE, "--nodes"),
    (("--nodes", "-1", *SCRIPT), USAGE, "--nodes"),
    (("--nodes", "4", *SCRIPT), USAGE, "the cluster has 3"),
    (("--gpus", "0", *SCRIPT), USAGE, "--gpus"),
    (("--gpus", "99", *SCRIPT), ALLOCATION, "99"),
    (("--retry", "-1", *SCRIPT), USAGE, "--retry"),
    (("--stall-timeout", "-1", *SCRIPT), USAGE, "--stall-timeout"),
    (("--stall-timeout", "nan", *SCRIPT), USAGE, "--stall-timeout"),
    (("--include", "gpu9", *SCRIPT), NOT_FOUND, "gpu9"),
    (("--include", "gpu1:7", *SCRIPT), USAGE, "no such GPU"),
    (("--include", "gpu1:x", *SCRIPT), USAGE, "gpu1:x"),
    (("--include", "$(touch canary)", *SCRIPT), USAGE, "$(touch"),
    (("--exclude", "gpu9", *SCRIPT), NOT_FOUND, "gpu9"),
    (("--exclude", "gpu-master", "--exclude", "gpu1", "--exclude", "gpu2", *SCRIPT), USAGE, "leave no node"),
    (("--env", "NOVALUE", *SCRIPT), USAGE, "NOVALUE"),
    (("--env", "1A=2", *SCRIPT), USAGE, "1A"),
    (("--env", "UGRO_TOKEN=mine", *SCRIPT), USAGE, "UGRO_TOKEN"),
    (("--script", "missing.py"), USAGE, "missing.py"),
    (("--script", str(PLAY), "--workdir", "/nowhere"), USAGE, "/nowhere"),
    (("--script", str(PLAY), "--model", "tiny-llama"), USAGE, "--model"),
    (("--workdir", str(SCRIPTS)), USAGE, "--workdir"),
    (("--no-such-option",), USAGE, "--no-such-option"),
    (("--name",), USAGE, "--name"),
)


def refused(ugro: Ugro, arguments: tuple[str, ...], code: int, word: str) -> None:
    """Run `ugro ARGUMENTS`: one line that holds `word`, the exit code, and not a trace of a job."""
    result = ugro.run(*arguments, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("ugro: ") and result.stderr.count("\n") == 1, result.stderr
    assert word in result.stderr
    assert len(result.stderr) < 600
    assert not list(ugro.home.rglob("canary*"))
    if ugro.data.exists():
        assert ugro.jobs() == []
        assert ugro.busy() == {}
    assert not (ugro.data / "jobs").exists()


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:20]))
def test_a_name_that_is_none_is_refused(ugro_here: Ugro, name: str) -> None:
    refused(ugro_here, ("launch", f"--name={name}", *SCRIPT), USAGE, "name")


@pytest.mark.parametrize(("options", "code", "word"), LAUNCHES, ids=[" ".join(row[0])[:40] for row in LAUNCHES])
def test_a_request_that_cannot_be_met_is_refused(
    ugro_here: Ugro, options: tuple[str, ...], code: int, word: str
) -> None:
    refused(ugro_here, ("launch", *options), code, word)


def test_a_name_that_is_taken_is_refused(ugro_here: Ugro) -> None:
    ugro_here.data.mkdir()
    with ugro_here.store() as store:
        store.create_job("taken", "ann", {})
        store.set_job("taken", "failed", "so that there is one")
    result = ugro_here.run("launch", "--name", "taken", *SCRIPT, code=USAGE)
    assert result.stderr.count("\n") == 1 and "taken" in result.stderr
    assert [(job.name, job.status) for job in ugro_here.jobs()] == [("taken", "failed")]


@pytest.mark.parametrize("verb", ["status", "logs", "stop", "results", "pull"])
def test_a_job_that_does_not_exist_is_not_found(ugro_here: Ugro, verb: str, tmp_path: Path) -> None:
    more = (str(tmp_path / "pulled"),) if verb == "pull" else ()
    refused(ugro_here, (verb, "nothing", *more), NOT_FOUND, "nothing")
    assert not (tmp_path / "pulled").exists()


INVENTORIES = {
    "not YAML": ("ugro_nodes: {hosts: [", "hosts.yml"),
    "not a mapping": ("- a\n- b\n", "hosts.yml"),
    "empty": ("", "hosts.yml"),
    "a wrong key": (
        """
        ugro_nodes:
          hosts:
            gpu-master: {ansible_host: 127.0.0.1, ansible_connection: local, ugro_role: master}
            gpu1: {ansible_host: 127.0.0.2, ansible_connection: local, ugro_vram: 8}
        """,
        "hosts.yml:5",
    ),
    "two masters": (
        """
        ugro_nodes:
          hosts:
            one: {ansible_host: 127.0.0.1, ansible_connection: local, ugro_role: master}
            two: {ansible_host: 127.0.0.2, ansible_connection: local, ugro_role: master}
        """,
        "hosts.yml:",
    ),
}


@pytest.mark.parametrize("kind", INVENTORIES)
def test_an_inventory_that_is_none_is_refused_with_file_and_line(
    make_ugro: Callable[..., Ugro], tmp_path: Path, kind: str
) -> None:
    text, where = INVENTORIES[kind]
    path = tmp_path / "hosts.yml"
    path.write_text(textwrap.dedent(text))
    refused(make_ugro(path), ("launch", *SCRIPT), INVENTORY, where)


def test_an_inventory_that_is_missing_is_refused(make_ugro: Callable[..., Ugro], tmp_path: Path) -> None:
    refused(make_ugro(tmp_path / "missing.yml"), ("launch", *SCRIPT), INVENTORY, "missing.yml")


@pytest.mark.parametrize("address", ["127.0.0.1", "no-such-host.invalid"])
def test_a_node_that_cannot_be_reached_is_named(make_ugro: Callable[..., Ugro], tmp_path: Path, address: str) -> None:
    path = tmp_path / "hosts.yml"
    far = f"{{ansible_host: {address}, ansible_port: 9, ansible_user: ann, ugro_role: master}}"
    path.write_text(f"ugro_nodes: {{hosts: {{far: {far}}}}}\n")
    refused(make_ugro(path), ("launch", *SCRIPT), NODE, "far")


@pytest.mark.lab
def test_a_host_key_that_changed_is_refused(fresh_home: Path, lab3: Lab, tmp_path: Path) -> None:
    host, other = lab3.host("gpu1"), lab3.host("gpu2")
    pinned = tmp_path / "known_hosts"
    pinned.write_text(lab3.known_hosts.read_text().replace(host.host_key, other.host_key))

    def pin(hosts: dict[str, dict[str, str]]) -> None:
        for variables in hosts.values():
            arguments = variables["ansible_ssh_common_args"].replace(str(lab3.known_hosts), str(pinned))
            variables["ansible_ssh_common_args"] = arguments

    ugro = Ugro(fresh_home, tmp_path / "data", edited(lab3, "changed-key.yml", pin), lab3)
    refused(ugro, ("launch", *SCRIPT), NODE, "host key has changed")
