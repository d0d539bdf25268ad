"""Opens the dashboard in a browser: the link that signs the caller in, here or through a tunnel to another machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ugro_py.api.client import Client, connect
from ugro_py.errors import NodeError, StateError
from ugro_py.master_ssh import ugro_there

_TUNNEL_S = 30.0


def agents_link(client: Client) -> dict[str, Any]:
    """Return a one-time link of the agent: `url`, `path`, `port`, `user`, `expires_s`.

    Raises:
        StateError: the agent's dashboard is off, or somebody else has its port.
    """
    found: dict[str, Any] = client.post("/v1/dashboard/link")
    if found["url"] is None:
        raise StateError(
            "the agent's dashboard", "it has no port: it is off, or another program had it first",
            "give `ugro agent` a free one with --dashboard PORT; its log says which was taken",
        )  # fmt: skip
    return found


def link() -> dict[str, Any]:
    """Return a one-time link of the agent that is responsible for the caller.

    Raises:
        StateError: there is no agent, or its dashboard is off.
    """
    client = connect()
    if client is None:
        raise StateError("the agent's dashboard", "no agent runs", "start `ugro agent`, or run `ugro dashboard` alone")
    return agents_link(client)


def open_browser(url: str) -> bool:
    """Open an address in the desktop's browser; return whether there is one. Never a browser in the terminal."""
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import webbrowser

    return webbrowser.open(url)


def tunnel(destination: str, words: Sequence[str], port: int, told: Callable[[str], object]) -> None:
    """Lead the master's dashboard to a port of this machine until Ctrl-C, or until the connection ends.

    Args:
        destination: the master, USER@HOST.
        words: what goes before the verb there (`-i PATH`).
        port: of this machine; 0 for any that is free. Not `localhost`: somebody else may have its other address.
        told: is called with the address that signs the caller in, as soon as it leads there.

    Raises:
        NodeError: the master cannot be reached, or has no dashboard.
        StateError: the port is taken.
    """
    asked = subprocess.run(
        ugro_there(destination, [*words, "dashboard", "--link", "--json"]), capture_output=True, text=True, check=False
    )
    if asked.returncode:
        said = asked.stderr.strip().splitlines()
        raise NodeError(
            f"dashboard of {destination}", said[-1] if said else f"it ended with code {asked.returncode}",
            f"see that `ssh {destination} ugro agent status` works",
        )  # fmt: skip
    found = json.loads(asked.stdout)
    here = _free_port(port)
    forward = f"127.0.0.1:{here}:localhost:{int(found['port'])}"
    options = ["-T", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15", "-L", forward]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    # `cat`, not -N: where this process is killed, the end of its input ends ssh once no page is open any more.
    with subprocess.Popen(["ssh", *options, "--", destination, "exec cat"], stdin=subprocess.PIPE) as ssh:
        try:
            _wait(ssh, here, destination)
            told(f"http://127.0.0.1:{here}{found['path']}")
            ssh.wait()
        finally:
            ssh.terminate()
    raise NodeError(f"tunnel to {destination}", "the connection has ended", "run it again")


def _wait(ssh: subprocess.Popen[bytes], port: int, destination: str) -> None:
    until = time.monotonic() + _TUNNEL_S
    while ssh.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    advice = f"see that `ssh {destination} true` works, or choose another --port"
    raise NodeError(f"tunnel to {destination}", f"port {port} leads nowhere", advice)


def _free_port(port: int) -> int:
    """Return `port` if nobody has it, any that is free for 0: who had it would be given the link."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise StateError(
            f"port {port} of this machine", error.strerror or str(error), "choose another --port"
        ) from error
