"""How a node is reached by ssh: the command, and what its complaints mean."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ugro_py import paths, runtime
from ugro_py.cluster import Node
from ugro_py.errors import NodeError

CONNECT_TIMEOUT_S = 5
# A socket's path has 107 bytes (unix(7)); ssh adds 40 for %C and 17 while it makes the socket. Without a socket every
# session makes a connection of its own, which works as well and costs some tenths of a second.
_LONGEST_CONTROL_DIR = 107 - len("/") - 40 - 17


def ssh_argv(node: Node, *, fresh: bool = False) -> list[str]:
    """Return the `ssh` command up to and including the destination.

    Args:
        node: where to.
        fresh: make a connection of its own: the shared one may hang when the node was lost.
    """
    control = (
        ["-o", "ControlPath=none"]
        if fresh or len(str(paths.control_dir())) > _LONGEST_CONTROL_DIR
        else [
            *("-o", "ControlMaster=auto", "-o", "ControlPersist=300s"),
            *("-o", f"ControlPath={paths.control_dir()}/%C"),
        ]
    )
    argv = [
        *("ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"),
        *("-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=2"),
        *control,
        *node.ssh_args,
    ]
    if node.port != 22:
        argv += ["-p", str(node.port)]
    if node.ssh_key:
        argv += ["-i", str(Path(node.ssh_key).expanduser()), "-o", "IdentitiesOnly=yes"]
    if node.user:
        argv += ["-l", node.user]
    return [*argv, "--", node.address]


def session_argv(node: Node, *, fresh: bool = False) -> list[str]:
    """Return the command that starts the session program on a node (`plugins/module_utils/session.py`)."""
    program = [node.python, "-c", runtime.BOOT, node.node_dir, node.name, runtime.digest()]
    if node.connection == "local":
        return [str(Path(node.python).expanduser()), *program[1:]]
    paths.control_dir().parent.mkdir(mode=0o700, exist_ok=True)
    paths.control_dir().mkdir(mode=0o700, exist_ok=True)
    return [*ssh_argv(node, fresh=fresh), f"exec {shell_line(program)}"]


def why_closed(node: Node, code: int, stderr: str) -> NodeError:
    """Return why the session program did not start or ended: `code` and `stderr` are those of its local end."""
    if node.connection == "ssh" and code == 255:
        return ssh_error(node, stderr)
    said = stderr.strip().splitlines()
    return NodeError(
        f"{node.name}: start {node.python}",
        said[-1] if said else f"it ended with code {code}",
        "set ansible_python_interpreter to a Python 3.9 or newer",
    )


def no_answer(node: Node, timeout_s: float) -> NodeError:
    """Return the error for a node that did not answer in time."""
    return NodeError(
        f"{node.name}: {describe_ssh(node)}",
        f"no answer in {timeout_s:g} s",
        f"see that it is on and that `{describe_ssh(node)} true` works",
    )


def describe_ssh(node: Node) -> str:
    """Return the destination as a person would type it."""
    user = f"{node.user}@" if node.user else ""
    port = f" -p {node.port}" if node.port != 22 else ""
    return f"ssh{port} {user}{node.address}"


def ssh_error(node: Node, stderr: str) -> NodeError:
    """Turn what ssh said into one line with the next step."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("@")]
    said = lines[-1] if lines else "the connection was closed"
    if "IDENTIFICATION HAS CHANGED" in stderr:
        said = "the host key has changed since it was pinned"
        host = node.address if node.port == 22 else f"[{node.address}]:{node.port}"
        step = f"if {node.name} was reinstalled, run `ssh-keygen -R {host}` and `ugro nodes add` again; else stop"
    elif "Host key verification failed" in stderr:
        step = "pin its host key first: `ugro nodes add` shows and pins it"
    elif "Permission denied" in stderr:
        step = f"let your key in: `ssh-copy-id {node.user + '@' if node.user else ''}{node.address}`"
    elif "Could not resolve" in stderr:
        step = "correct ansible_host in the inventory"
    else:
        step = f"see that it is on and that `{describe_ssh(node)} true` works"
    return NodeError(f"{node.name}: {describe_ssh(node)}", said, step)


def shell_line(program: Sequence[str]) -> str:
    """Quote a command for the node's login shell, which alone can expand a `~/` at the front of a word."""
    return " ".join("~/" + shlex.quote(word[2:]) if word.startswith("~/") else shlex.quote(word) for word in program)
