"""Runs the collection's playbooks: the only caller of ansible-runner.

A run needs no configuration file and no particular folder, sees the same SSH settings as `ansible.cfg`
(so it shares the connections `ugro` holds open), leaves no file behind and ends with the process that
started it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ugro_py import paths
from ugro_py.errors import NodeError, NotFoundError, UgroError, UsageError
from ugro_py.names import check_name
from ugro_py.run_guard import PID_FILE

Extra = str | int | bool
EventKind = Literal["task", "ok", "changed", "skipped", "failed", "unreachable"]

_HOST_EVENTS: dict[str, EventKind] = {
    "runner_on_ok": "ok",
    "runner_on_skipped": "skipped",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
}
_STATS = ("ok", "changed", "failures", "dark", "skipped", "rescued")
_GUARD = Path(__file__).with_name("run_guard.py")


@dataclass(frozen=True)
class Event:
    """Something a playbook just did: it began a task (`host` is empty), or a host ended one."""

    kind: EventKind
    task: str
    host: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A task that failed on a host, with its message in one line."""

    host: str
    task: str
    message: str
    unreachable: bool = False


@dataclass
class RunResult:
    """What a run did.

    `stats` counts tasks by host as Ansible does (`ok`, `changed`, `failures`, `dark`: unreachable,
    `skipped`, `rescued`); `results` has what modules returned, by task name and host; `output` the
    last lines Ansible printed, which is where an error outside any task shows.
    """

    status: str = "failed"
    rc: int = 1
    stats: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    results: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    output: str = ""

    @property
    def ok(self) -> bool:
        return self.rc == 0

    @property
    def changed(self) -> bool:
        """Whether any host changed (or, in check mode, would)."""
        return any(counts.get("changed", 0) for counts in self.stats.values())

    def raise_for_failure(self, what: str) -> None:
        """Do nothing if the run went well.

        Raises:
            NodeError: a host failed or could not be reached; the text is the first failure.
            UgroError: Ansible itself failed.
        """
        if self.ok:
            return
        if self.failures:
            first = self.failures[0]
            more = f" ({len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
            raise NodeError(f"{what}: {first.host}: {first.task}", first.message + more)
        raise UgroError(what, self.output or f"ansible-playbook ended with code {self.rc}")


def run_playbook(
    name: str,
    *,
    inventory: Path,
    limit: Sequence[str] | None = None,
    extra: Mapping[str, Extra] | None = None,
    tags: Sequence[str] | None = None,
    check: bool = False,
    diff: bool = False,
    on_event: Callable[[Event], None] | None = None,
    quiet: bool = True,
) -> RunResult:
    """Run `playbooks/<name>.yml` and return what it did.

    Args:
        inventory: file or folder of the inventory.
        limit: names of the nodes to run on; None means all.
        extra: extra variables. Only UGRO's own constants: what a user typed never belongs here, since
            Ansible evaluates templates in values on this machine.
        tags: run only tasks with one of these tags.
        on_event: called for each task that begins and each host that ends it, as it happens.
        quiet: do not print Ansible's own output.

    Raises:
        NotFoundError: there is no such playbook or inventory.
        UsageError: a value of `extra` or `limit` is not safe to hand to Ansible.
    """
    from ansible_runner import Runner, RunnerConfig

    playbook = paths.playbook(name)
    if not playbook.is_file():
        raise NotFoundError(f"playbook {name!r}", f"no file {playbook}")
    if not inventory.exists():
        raise NotFoundError(f"inventory {inventory}", "no such file or folder")
    variables = _check_extra(extra or {})
    nodes = [check_name(node, "node") for node in limit or ()]
    folder = Path(tempfile.mkdtemp(prefix="ugro-run-", dir=_memory_folder()))
    collector = _Collector(on_event)
    try:
        (folder / "env").mkdir(mode=0o700)
        # ansible-runner takes settings from this file only.
        settings = {"suppress_ansible_output": quiet, "pexpect_timeout": 1}
        (folder / "env" / "settings").write_text(json.dumps(settings))
        config = RunnerConfig(
            private_data_dir=str(folder),
            playbook=str(playbook),
            inventory=str(inventory.resolve()),
            limit=",".join(nodes) or None,
            extravars=variables,
            tags=",".join(tags or ()) or None,
            cmdline=" ".join(option for option, on in (("--check", check), ("--diff", diff)) if on) or None,
            envvars=environment(),
        )
        config.prepare()
        config.command = [
            *(sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(folder)),
            *(sys.executable, "-P", "-m", "ansible", "playbook"),
            *config.command[1:],
        ]
        runner = Runner(config=config, event_handler=collector)
        try:
            status, rc = runner.run()
        except BaseException:
            _end_guard(folder)
            raise
        return collector.finish(status, rc)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment() -> dict[str, str]:
    """Return the Ansible settings of every run, as environment variables; they equal `ansible.cfg`."""
    collections = (paths.collections_path(), "~/.ansible/collections", "/usr/share/ansible/collections")
    return {
        "ANSIBLE_COLLECTIONS_PATH": ":".join(map(str, collections)),
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_FORKS": "30",
        "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_HOST_KEY_CHECKING": "True",  # ansible-runner would switch it off
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": "~/.ugro/cm",
        "ANSIBLE_SSH_CONTROL_PATH": "%(directory)s/%%C",
        "ANSIBLE_SSH_ARGS": (
            "-o ControlMaster=auto -o ControlPersist=300s -o ServerAliveInterval=2 "
            "-o ServerAliveCountMax=2 -o ConnectTimeout=5"
        ),
        "ANSIBLE_NOCOLOR": "True",
    }


class _Collector:
    """Receives ansible-runner's events and keeps what the result needs."""

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        self._on_event = on_event
        self._result = RunResult()
        self._lines: list[str] = []

    def __call__(self, data: dict[str, Any]) -> bool:
        """Take one event; the answer False keeps ansible-runner from writing a file for it."""
        kind = data.get("event", "")
        details = data.get("event_data") or {}
        task = str(details.get("task") or "")
        if kind == "playbook_on_task_start":
            self._emit(Event("task", task))
        elif kind in _HOST_EVENTS:
            self._host_event(_HOST_EVENTS[kind], task, details)
        elif kind == "playbook_on_stats":
            self._stats(details)
        elif data.get("stdout"):
            self._lines += str(data["stdout"]).splitlines()
        return False

    def finish(self, status: str, rc: int) -> RunResult:
        result = self._result
        result.status, result.rc = status, rc
        result.output = "\n".join(line for line in self._lines[-20:] if line.strip())
        # A failure that a `rescue` took care of is none.
        result.failures = [
            failure
            for failure in result.failures
            if failure.host not in result.stats
            or result.stats[failure.host]["failures"]
            or result.stats[failure.host]["dark"]
        ]
        return result

    def _host_event(self, kind: EventKind, task: str, details: Mapping[str, Any]) -> None:
        host = str(details.get("host") or "")
        module_result = details.get("res") or {}
        if kind == "ok" and module_result.get("changed"):
            kind = "changed"
        if kind in ("failed", "unreachable") and not details.get("ignore_errors"):
            self._result.failures.append(
                Failure(host, task, _message(module_result), unreachable=kind == "unreachable")
            )
        self._result.results.setdefault(task, {})[host] = module_result
        self._emit(Event(kind, task, host, module_result))

    def _stats(self, details: Mapping[str, Any]) -> None:
        for key in _STATS:
            for host, count in (details.get(key) or {}).items():
                self._result.stats.setdefault(host, dict.fromkeys(_STATS, 0))[key] = count

    def _emit(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)


def _message(result: Mapping[str, Any]) -> str:
    """Return why a module failed, in one line."""
    items = [item for item in result.get("results") or () if isinstance(item, dict) and item.get("failed")]
    source = items[0] if items else result
    parts = [source.get("msg"), source.get("stderr") or source.get("module_stderr")]
    text = ": ".join(str(part).strip() for part in parts if part)
    return " ".join(text.split())[:500] or "failed without a message"


def _check_extra(extra: Mapping[str, Extra]) -> dict[str, Extra]:
    for key, value in extra.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", key):
            raise UsageError(f"Ansible variable {key!r}", "is not a valid name")
        if isinstance(value, str) and re.search(r"\{\{|\{%|\{#", value):
            raise UsageError(f"Ansible variable {key}", "its value holds a template, which Ansible would run")
        if not isinstance(value, str | int | bool):
            raise UsageError(f"Ansible variable {key}", f"cannot be a {type(value).__name__}")
    return dict(extra)


def _memory_folder() -> str | None:
    """Return a folder in memory for a run's files, which hold the command line and the environment."""
    for candidate in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 - mkdtemp makes it 0700
        if candidate and os.access(candidate, os.W_OK | os.X_OK):
            return candidate
    return None


def _end_guard(folder: Path) -> None:
    """End the run whose files are in `folder`, when this process stops waiting for it (Ctrl-C)."""
    marker = folder / PID_FILE
    deadline = time.monotonic() + 2
    while not marker.exists():
        if time.monotonic() > deadline:
            return  # the run had not begun
        time.sleep(0.05)
    pid = int(marker.read_text())
    try:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # it ended by itself meanwhile
