"""Edits of inventories: only what was asked for changes, to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ugro_py.errors import InventoryError, NotFoundError, UsageError
from ugro_py.inventory import load_cluster, parse_cluster
from ugro_py.inventory.edit import add_host, remove_host, write_inventory

ROOT = Path(__file__).resolve().parents[2]
FILE = Path("/nowhere/hosts.yml")
NEW = {"ansible_host": "10.0.0.9", "ugro_gpu": "RTX 4070 # not a comment", "ugro_gpu_count": 2, "ugro_vram_gb": 8.0}
NEW_LINES = [
    "gpu9:",
    "  ansible_host: 10.0.0.9",
    "  ugro_gpu: 'RTX 4070 # not a comment'",
    "  ugro_gpu_count: 2",
    "  ugro_vram_gb: 8.0",
]

PLAIN = """\
ugro_nodes:
  hosts:
    head: {ugro_role: master}
    gpu1:   # no variables
"""
SPACED = """\
# The lab in the attic.
all:
  vars:
    ugro_cluster_name: "Attic"   # quoted on purpose
  children:
    ugro_nodes:
      hosts:
            # Everything below hangs on one UPS.
            head:
              ugro_role: master

            # Kim's machine: ask first.
            gpu1: &card
              ansible_host:   10.0.0.1
              ugro_gpu: >-
                RTX
                4070

            gpu2:
              <<: *card
              ansible_host: '10.0.0.2'
              # ugro_slots: 4


      # Training defaults.
      vars:
        ugro_training: {epochs: 2}
"""
BY_ROLE = """\
ugro_nodes:
  children:
    masters:
      hosts:
        head:
          ugro_role: master
    workers:
      vars: {ugro_role: worker}
      hosts:
        gpu1:
          ansible_host: 10.0.0.1
other:
  hosts:
    gpu1:
"""
NO_NEWLINE = "ugro_nodes:\n  hosts:\n    head:\n      ugro_role: master"
DOS = "ugro_nodes:\r\n  hosts:\r\n    head:\r\n      ugro_role: master\r\n  vars: {ugro_slots: 2}\r\n"
BLOCK_TEXT = """\
ugro_nodes:
  hosts:
    head:
      ugro_role: master
      ansible_become_password: |
        secret

  vars:
    ugro_slots: 2
"""
BLOCKS = {
    "plain": PLAIN,
    "spaced": SPACED,
    "by role": BY_ROLE,
    "no newline at the end": NO_NEWLINE,
    "dos": DOS,
    "block text": BLOCK_TEXT,
    "example": (ROOT / "inventory" / "example" / "hosts.yml").read_text(),
}


def inserted(before: str, after: str) -> list[str]:
    """Return the lines of `after` that are not in `before`, which must be left as it is around them."""
    old, new = before.splitlines(), after.splitlines()
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    count = len(new) - len(old)
    # A block may begin like the lines after it; slide back to where it was put.
    assert new[:start] + new[start + count :] == old
    return new[start : start + count]


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS.keys())
def test_add_changes_nothing_else(text: str) -> None:
    after = add_host(FILE, text.encode(), "gpu9", NEW).decode()
    block = inserted(text, after)
    indent = next(line.index("gpu9:") for line in block if "gpu9:" in line)
    wanted = [" " * indent + line for line in NEW_LINES]
    assert sorted(line for line in block if line) == sorted(wanted)
    assert "\n".join(wanted) in after.replace("\r", "")
    cluster = parse_cluster(FILE, after.encode())
    assert cluster.nodes[-1].name == "gpu9"
    assert cluster.node("gpu9").gpu == NEW["ugro_gpu"]
    assert ("\r\n" in text) == ("\r\n" in after)
    assert after.count("\r") == (after.count("\n") if "\r" in text else 0)


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS.keys())
def test_remove_undoes_add(text: str) -> None:
    added = add_host(FILE, text.encode(), "gpu9", NEW)
    removed = remove_host(FILE, added, "gpu9").decode()
    assert removed.removesuffix("\n") == text.removesuffix("\n")


def test_new_host_goes_after_the_last_hosts_own_comments_and_keeps_its_distance() -> None:
    after = add_host(FILE, SPACED.encode(), "gpu9", {"ansible_host": "10.0.0.9"}).decode()
    wanted = """\
                  # ugro_slots: 4

                gpu9:
                  ansible_host: 10.0.0.9


          # Training defaults.
    """
    assert textwrap.indent(textwrap.dedent(wanted), " " * 6).rstrip() in after


def test_remove_takes_the_comment_that_belongs_to_the_host() -> None:
    text = SPACED.replace("<<: *card", "ugro_gpu: x")
    after = remove_host(FILE, text.encode(), "gpu1").decode()
    start = text.index("\n            # Kim's machine")
    assert after == text[:start] + text[text.index("\n            gpu2:") :]


def test_remove_of_the_first_host_keeps_the_comment_above_all_hosts() -> None:
    text = "ugro_nodes:\n  hosts:\n    # All in the attic.\n    gpu1:\n    head: {ugro_role: master}\n"
    assert remove_host(FILE, text.encode(), "gpu1").decode() == text.replace("    gpu1:\n", "")


def test_remove_takes_the_host_out_of_every_group() -> None:
    after = remove_host(FILE, BY_ROLE.encode(), "gpu1").decode()
    assert "gpu1" not in after
    assert after.splitlines() == [line for line in BY_ROLE.splitlines() if "gpu1" not in line and "10.0" not in line]


BRACES = """\
# The lab.
ugro_nodes:
  hosts: {head: {ugro_role: master}, gpu1: {ansible_host: '10.0.0.1'}} # two
  vars: {ugro_slots: 2} # each
"""


def test_hosts_in_braces() -> None:
    added = add_host(FILE, BRACES.encode(), "gpu9", NEW).decode()
    host = (
        ", gpu9: {ansible_host: 10.0.0.9, ugro_gpu: 'RTX 4070 # not a comment', ugro_gpu_count: 2, ugro_vram_gb: 8.0}"
    )
    assert added == BRACES.replace("'}}", "'}" + host + "}")
    assert parse_cluster(FILE, added.encode()).node("gpu9").vram_gb == 8.0
    assert remove_host(FILE, added.encode(), "gpu9").decode() == BRACES
    assert remove_host(FILE, added.encode(), "gpu1").decode() == added.replace("gpu1: {ansible_host: '10.0.0.1'}, ", "")


def test_hosts_in_braces_over_several_lines() -> None:
    text = "ugro_nodes: {\n  hosts: {\n    head: {ugro_role: master}, # this one\n    gpu1: ,\n  } }\n"
    added = add_host(FILE, text.encode(), "gpu9", {"ansible_host": "10.0.0.9"}).decode()
    assert added == text.replace("gpu1: ,", "gpu1: , gpu9: {ansible_host: 10.0.0.9}")
    assert [node.name for node in parse_cluster(FILE, added.encode()).nodes] == ["head", "gpu1", "gpu9"]
    assert "this one" in remove_host(FILE, text.encode(), "gpu1").decode()


def test_refusals() -> None:
    with pytest.raises(UsageError, match=r"node 'gpu1': is already in /nowhere/hosts.yml:4; choose another name"):
        add_host(FILE, PLAIN.encode(), "gpu1", NEW)
    with pytest.raises(InventoryError, match=r"more than one master: head and gpu9"):
        add_host(FILE, PLAIN.encode(), "gpu9", {"ugro_role": "master"})
    with pytest.raises(InventoryError, match=r"gpu9 has the address gpu1 port 22 of gpu1"):
        add_host(FILE, PLAIN.encode(), "gpu9", {"ansible_host": "gpu1"})
    with pytest.raises(NotFoundError, match=r"node 'gpu7': not in /nowhere/hosts.yml; known nodes: head, gpu1"):
        remove_host(FILE, PLAIN.encode(), "gpu7")
    with pytest.raises(UsageError, match=r"remove head: it is the master.*give another node `ugro_role: master` first"):
        remove_host(FILE, PLAIN.encode(), "head")
    with pytest.raises(InventoryError, match=r"without gpu1 it would not be valid .*undefined alias.*by hand"):
        remove_host(FILE, SPACED.encode(), "gpu1")
    with pytest.raises(InventoryError, match="is not UTF-8"):
        add_host(FILE, PLAIN.encode("utf-16"), "gpu9", NEW)


def test_write_is_atomic_keeps_mode_and_link_and_refuses_to_overwrite_others_work(tmp_path: Path) -> None:
    real = tmp_path / "git" / "lab.yml"
    real.parent.mkdir()
    real.write_bytes(b"old")
    real.chmod(0o640)
    link = tmp_path / "hosts.yml"
    link.symlink_to(real)
    inode = real.stat().st_ino
    write_inventory(link, b"old", b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.stat().st_ino != inode  # a rename, so that no reader ever sees half of it
    with pytest.raises(InventoryError, match=r"was changed by somebody else meanwhile; run the command again"):
        write_inventory(link, b"old", b"newer")
    with pytest.raises(InventoryError, match=r"was changed by somebody else"):
        write_inventory(link, None, b"newer")
    assert real.read_bytes() == b"new"
    assert os.listdir(real.parent) == ["lab.yml"]


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yml"
    file.write_text(PLAIN)
    code = (
        "import sys; from pathlib import Path\n"
        "from ugro_py.inventory.edit import add_host, write_inventory\n"
        "from ugro_py.errors import InventoryError\n"
        "file, name = Path(sys.argv[1]), sys.argv[2]\n"
        "while True:\n"
        "    old = file.read_bytes()\n"
        "    try:\n"
        "        write_inventory(file, old, add_host(file, old, name, {}))\n"
        "        break\n"
        "    except InventoryError as error:\n"
        "        assert 'meanwhile' in str(error), error\n"
    )
    names = [f"extra{number}" for number in range(6)]
    writers = [subprocess.Popen([sys.executable, "-c", code, file, name]) for name in names]
    assert [writer.wait(60) for writer in writers] == [0] * 6
    assert {node.name for node in load_cluster(file).nodes} == {"head", "gpu1", *names}
