# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro nodes` with real hosts: keys are shown, compared and pinned; nothing is written before all is well."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.support import PLAY, UGRO, Ugro, finish, interrupt
from tests.lab import Host, Lab

pytestmark = pytest.mark.lab

NO_SUCH_KEY = "SHA256:" + "A" * 43


@pytest.fixture
def own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ugro]:
    """`ugro` of somebody who has no inventory and knows no host yet."""
    home = tmp_path_factory.mktemp("n")
    ugro = Ugro(home, tmp_path / "data")
    yield ugro
    ugro.close()
    for control in (home / ".ugro" / "cm").glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={control}", "-"], capture_output=True, check=False)


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def inventory_of(ugro: Ugro) -> Path:
    return ugro.home / ".config" / "ugro" / "inventory" / "hosts.yml"


def options(lab: Lab, host: Host, known_hosts: Path) -> list[str]:
    """Return how to reach a host of the lab with keys pinned in `known_hosts` only, not the lab's own."""
    ssh = f"-o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
    return [
        "--address", host.address, "--user", host.user, "--port", str(host.port), "--key", str(lab.key),
        "--ssh-args", ssh,
    ]  # fmt: skip


def found_in(known_hosts: Path, name: str) -> str:
    """Return the keys of a host in a known_hosts file, where its name may be hashed."""
    command = ["ssh-keygen", "-F", name, "-f", str(known_hosts)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fingerprint(key: str) -> str:
    """Return the fingerprint of a public key ("type base64") as ssh-keygen prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def test_the_first_node_starts_an_inventory_with_this_machine_as_master(
    own: Ugro, lab3: Lab, known_hosts: Path
) -> None:
    host = lab3.hosts[2]  # another user, another port
    said = own.run("nodes", "add", "gpu2", *options(lab3, host, known_hosts), "--yes").stdout
    assert f"gpu2 ({host.address}) shows a host key that is not known here:" in said
    assert fingerprint(host.host_key) in said
    assert f"Pinned the host key in {known_hosts}" in said
    assert f"Started your inventory {inventory_of(own)}: gpu2 (no GPU, CPU slots: 1)" in said
    assert host.host_key in found_in(known_hosts, f"[{host.address}]:{host.port}")

    listed = own.json("nodes", "ls", "--json")
    assert [(node["name"], node["role"], node["address"], node["port"], node["user"]) for node in listed["nodes"]] == [
        ("gpu-master", "master", lab3.address, 22, None),  # the address at which the others reach this machine
        ("gpu2", "worker", host.address, host.port, host.user),
    ]
    # What was written is enough to use it.
    checked = own.json("check", "gpu2", "--json", code=5)  # the host's own Python has no torch
    assert [item["check"] for item in checked["nodes"]["gpu2"]["findings"] if item["severity"] == "critical"] == [
        "pytorch_ready"
    ]


def test_a_second_node_is_one_more_entry_and_everything_else_stays_as_it_was(
    own: Ugro, lab3: Lab, known_hosts: Path
) -> None:
    known_hosts.write_text("# mine\n192.0.2.1 ssh-ed25519 AAAA")  # without a newline at its end
    own.run("nodes", "add", "gpu1", *options(lab3, lab3.hosts[1], known_hosts), "--yes")
    file = inventory_of(own)
    file.write_text(file.read_text() + "# a remark of mine\n")
    before = file.read_text()
    third = ["gpu2", *options(lab3, lab3.hosts[2], known_hosts), "--slots", "2", "--yes"]
    own.run("nodes", "add", *third)
    after = file.read_text()
    assert after.startswith(before.partition("# a remark")[0]) and "# a remark of mine" in after
    assert [node["slots"] for node in own.json("nodes", "ls", "--json")["nodes"]] == [1, 1, 2]
    assert known_hosts.read_text().splitlines()[:2] == ["# mine", "192.0.2.1 ssh-ed25519 AAAA"]
    assert len(known_hosts.read_text().splitlines()) == 4
    for host in lab3.hosts[1:]:
        assert host.host_key in found_in(
            known_hosts, host.address if host.port == 22 else f"[{host.address}]:{host.port}"
        )

    again = own.run("nodes", "add", *third, code=2)
    assert "gpu2" in again.stderr and "\n" not in again.stderr.strip()
    assert file.read_text() == after

    own.run("nodes", "rm", "gpu2", "--yes")
    assert file.read_text() == before  # to the byte
    assert "gpu2" in own.run("nodes", "rm", "gpu2", "--yes", code=8).stderr
    assert "gpu-master" in own.run("nodes", "rm", "gpu-master", "--yes", code=2).stderr
    assert file.read_text() == before


def test_without_anybody_to_ask_the_key_is_shown_and_nothing_is_trusted(
    own: Ugro, lab3: Lab, known_hosts: Path
) -> None:
    host = lab3.hosts[1]
    answer = own.run("nodes", "add", "gpu1", *options(lab3, host, known_hosts), code=2)
    assert fingerprint(host.host_key) in answer.stdout
    assert "give --yes or --fingerprint SHA256:…" in answer.stderr
    assert not known_hosts.exists() and not inventory_of(own).exists()


def test_the_fingerprint_that_is_demanded_decides(own: Ugro, lab3: Lab, known_hosts: Path) -> None:
    host = lab3.hosts[1]
    add = ["nodes", "add", "gpu1", *options(lab3, host, known_hosts), "--fingerprint"]
    refused = own.run(*add, NO_SUCH_KEY, code=4).stderr
    assert f"is not {NO_SUCH_KEY} but" in refused and fingerprint(host.host_key) in refused
    assert "is not SHA256: and 43 characters" in own.run(*add, "SHA256:short", code=2).stderr
    assert not known_hosts.exists() and not inventory_of(own).exists()
    own.run(*add, fingerprint(host.host_key))
    assert host.host_key.split()[1] in known_hosts.read_text()


def test_a_key_that_changed_is_refused_even_with_yes(own: Ugro, lab3: Lab, known_hosts: Path) -> None:
    host, other = lab3.hosts[1], lab3.hosts[0]
    known_hosts.write_text(f"{host.address} {other.host_key}\n")
    before = known_hosts.read_text()
    answer = own.run("nodes", "add", "gpu1", *options(lab3, host, known_hosts), "--yes", code=4)
    assert "the host key differs from the pinned one" in answer.stderr
    assert fingerprint(host.host_key) in answer.stderr  # what it shows, to compare on the machine itself
    assert known_hosts.read_text() == before and not inventory_of(own).exists()


def test_a_host_that_cannot_be_reached_or_entered_is_refused(own: Ugro, lab3: Lab, known_hosts: Path) -> None:
    host = lab3.hosts[1]
    closed = options(lab3, host, known_hosts)
    closed[closed.index("--port") + 1] = "2022"
    answer = own.run("nodes", "add", "gpu1", *closed, "--yes", code=4).stderr
    assert answer.startswith("ugro: gpu1: ") and "Connection refused" in answer and "\n" not in answer.strip()

    stranger = options(lab3, host, known_hosts)
    stranger[stranger.index("--user") + 1] = "nobody_here"
    answer = own.run("nodes", "add", "gpu1", *stranger, "--yes", code=4).stderr
    assert "Permission denied" in answer and "\n" not in answer.strip()

    nameless = ["nodes", "add", "gpu1", "--address", "no-such-host.invalid", "--yes"]
    answer = own.run(*nameless, code=4).stderr
    assert "no-such-host.invalid" in answer and "\n" not in answer.strip()
    assert not known_hosts.exists() and not inventory_of(own).exists()


def test_ctrl_c_at_the_question_changes_nothing(own: Ugro, lab3: Lab, known_hosts: Path) -> None:
    script = shutil.which("script")
    if script is None:
        pytest.skip("needs the program `script` for a terminal (Debian: bsdutils)")
    host = lab3.hosts[1]
    command = " ".join([str(UGRO), "nodes", "add", "gpu1", *(f"'{word}'" for word in options(lab3, host, known_hosts))])
    process = subprocess.Popen(
        [script, "-qec", command, "/dev/null"], env=own.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    shown = b""
    while b"Trust this key and add the node?" not in shown:
        chunk = process.stdout.read1(4096)
        assert chunk, shown
        shown += chunk
    process.stdin.write(b"\x03")
    process.stdin.flush()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not known_hosts.exists() and not inventory_of(own).exists()


@pytest.mark.slow
def test_a_node_that_works_stays(make_ugro: Callable[..., Ugro], lab3: Lab) -> None:
    ugro = make_ugro(lab3.inventory_file("nodes-busy.yml"), lab3)
    process = ugro.start("launch", "--script", PLAY, "--include", "gpu1", "--name", "busy", "--", "wait")
    ugro.wait_for("busy", "running")
    refused = ugro.run("nodes", "rm", "gpu1", "--yes", code=2).stderr
    assert "job busy runs on it" in refused and "`ugro stop busy`" in refused
    assert ugro.inventory is not None
    before = ugro.inventory.read_bytes()
    interrupt(process)
    ugro.run("stop", "busy")
    finish(process, process.wait(60))
    ugro.run("nodes", "rm", "gpu1", "--yes")
    assert ugro.inventory.read_bytes() != before
    assert [node["name"] for node in ugro.json("nodes", "ls", "--json")["nodes"]] == ["gpu-master", "gpu2"]
