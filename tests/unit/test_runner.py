# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Playbooks run by `run_playbook`: real ansible-playbook processes on this machine."""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ugro_py import paths, runner
from ugro_py.errors import NodeError, NotFoundError, UgroError, UsageError
from ugro_py.runner import Event, run_playbook

INVENTORY = """
ugro_nodes:
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  hosts:
    a:
    b:
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "hosts.yml"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs keep their files."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def playbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write the tasks of the playbook that `run_playbook` finds under every name."""
    path = tmp_path / "playbook.yml"
    monkeypatch.setattr(paths, "playbook", lambda name: path)

    def write(tasks: str) -> None:
        head = "- hosts: all\n  gather_facts: false\n  tasks:\n"
        path.write_text(head + textwrap.indent(textwrap.dedent(tasks).strip(), "    ") + "\n")

    return write


def test_settings_equal_the_checkouts_configuration_file() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(__file__).parents[2] / "ansible.cfg")
    variable = {
        ("defaults", "gathering"): "ANSIBLE_GATHERING",
        ("defaults", "forks"): "ANSIBLE_FORKS",
        ("defaults", "interpreter_python"): "ANSIBLE_PYTHON_INTERPRETER",
        ("defaults", "retry_files_enabled"): "ANSIBLE_RETRY_FILES_ENABLED",
        ("defaults", "host_key_checking"): "ANSIBLE_HOST_KEY_CHECKING",
        ("ssh_connection", "pipelining"): "ANSIBLE_PIPELINING",
        ("ssh_connection", "control_path_dir"): "ANSIBLE_SSH_CONTROL_PATH_DIR",
        ("ssh_connection", "control_path"): "ANSIBLE_SSH_CONTROL_PATH",
        ("ssh_connection", "ssh_args"): "ANSIBLE_SSH_ARGS",
    }
    environment = runner.environment()
    assert {key: environment[name] for key, name in variable.items()} == {key: parser.get(*key) for key in variable}


def test_results_failures_and_events_by_host(inventory: Path, memory: Path, playbook: Callable[[str], None]) -> None:
    playbook("""
        - name: Make a file
          ansible.builtin.copy:
            content: "{{ wanted }}"
            dest: "{{ inventory_dir }}/made-{{ inventory_hostname }}"
            mode: "0600"
        - name: Repair
          block:
            - name: Break
              ansible.builtin.fail:
                msg: a failure that is rescued
          rescue:
            - name: Mend
              ansible.builtin.debug:
                msg: mended
          when: inventory_hostname == "a"
        - name: Fail on b
          ansible.builtin.command: {argv: [sh, -c, "echo why >&2; exit 3"]}
          changed_when: false
          when: inventory_hostname == "b"
    """)
    events: list[Event] = []
    result = run_playbook("x", inventory=inventory, extra={"wanted": 'it\'s "$(id)"'}, on_event=events.append)
    assert (inventory.parent / "made-a").read_text() == 'it\'s "$(id)"'
    assert not result.ok
    assert result.changed
    assert [(failure.host, failure.task) for failure in result.failures] == [("b", "Fail on b")]
    assert "non-zero return code: why" in result.failures[0].message
    assert result.stats["a"]["changed"] == 1
    assert result.stats["a"]["rescued"] == 1
    assert result.results["Make a file"]["b"]["dest"].endswith("made-b")
    assert next(event.task for event in events if event.kind == "task") == "Make a file"
    assert {event.host for event in events if event.kind == "changed"} == {"a", "b"}
    with pytest.raises(NodeError, match="prepare: b: Fail on b: non-zero return code: why"):
        result.raise_for_failure("prepare")
    assert list(memory.iterdir()) == []


def test_check_mode_and_limit(inventory: Path, memory: Path, playbook: Callable[[str], None]) -> None:
    playbook("""
        - name: Make a file
          ansible.builtin.copy:
            content: text
            dest: "{{ inventory_dir }}/made-{{ inventory_hostname }}"
            mode: "0600"
    """)
    result = run_playbook("x", inventory=inventory, limit=["b"], check=True)
    assert result.ok
    assert result.changed
    assert list(result.stats) == ["b"]
    assert not (inventory.parent / "made-b").exists()


def test_an_error_outside_any_task_is_shown(inventory: Path, memory: Path, playbook: Callable[[str], None]) -> None:
    playbook("- name: Odd\n  no_such_namespace.no_such_collection.no_such_module: {}")
    result = run_playbook("x", inventory=inventory)
    assert not result.ok
    with pytest.raises(UgroError, match=r"run: .*no_such_module"):
        result.raise_for_failure("run")


@pytest.mark.parametrize("value", ["{{ lookup('pipe', 'id') }}", "{% if 1 %}x{% endif %}", "a{#b#}"])
def test_a_template_never_becomes_a_variable(inventory: Path, value: str) -> None:
    with pytest.raises(UsageError, match="template"):
        run_playbook("bootstrap", inventory=inventory, extra={"name": value})


@pytest.mark.parametrize("key", ["", "a b", "A", "x=1", "ansible_connection=local x"])
def test_variable_names_are_plain(inventory: Path, key: str) -> None:
    with pytest.raises(UsageError, match="not a valid name"):
        run_playbook("bootstrap", inventory=inventory, extra={key: 1})


@pytest.mark.parametrize("node", ["@/etc/passwd", "a,b", "!a", "~a.*", "a:b", "-v"])
def test_limit_takes_names_only(inventory: Path, node: str) -> None:
    with pytest.raises(UsageError, match="not a valid name"):
        run_playbook("bootstrap", inventory=inventory, limit=[node])


def test_unknown_playbook_and_inventory(inventory: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        run_playbook("nothing", inventory=inventory)
    with pytest.raises(NotFoundError, match="no such file"):
        run_playbook("bootstrap", inventory=tmp_path / "missing.yml")


SLEEP = """
    - name: Begin
      ansible.builtin.debug:
        msg: begun
    - name: Sleep
      ansible.builtin.command: {argv: [sleep, "300"]}
      changed_when: false
"""
linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")


def _processes(token: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if token.encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)


@linux
def test_an_interrupt_ends_ansible_and_its_workers(
    inventory: Path, memory: Path, playbook: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    playbook(SLEEP)
    token = f"interrupt-{os.getpid()}"
    monkeypatch.setenv("UGRO_TEST_TOKEN", token)

    def interrupt(event: Event) -> None:
        if event.task == "Sleep":
            _wait_for(lambda: len(_processes(token)) >= 4)  # guard, ansible-playbook, workers
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_playbook("x", inventory=inventory, on_event=interrupt)
    _wait_for(lambda: not _processes(token))
    assert list(memory.iterdir()) == []


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ansible_ends_when_ugro_is_killed(
    inventory: Path, memory: Path, playbook: Callable[[str], None], number: signal.Signals
) -> None:
    playbook(SLEEP)
    token = f"killed-{os.getpid()}-{number}"
    program = textwrap.dedent(f"""
        from pathlib import Path
        from ugro_py import paths
        from ugro_py.runner import run_playbook
        paths.playbook = lambda name: Path({str(inventory.parent / "playbook.yml")!r})
        run_playbook("x", inventory=Path({str(inventory)!r}),
                     on_event=lambda event: print(event.task, flush=True))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "UGRO_TEST_TOKEN": token},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "Sleep\n" in iter(process.stdout.readline, "")
    _wait_for(lambda: len(_processes(token)) >= 5)  # also the process itself
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    _wait_for(lambda: not _processes(token))
    assert list(memory.iterdir()) == []
