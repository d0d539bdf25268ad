"""Sessions to nodes: one Python program per node over one SSH channel (or a local process).

The program is `plugins/module_utils/session.py`; its source travels to the node once per version, into
`<node_dir>/runtime/<digest>/`. SSH connections are multiplexed through the same control sockets as Ansible's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import io
import json
import shlex
import time
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from ugro_py import paths
from ugro_py.cluster import Node
from ugro_py.errors import NodeError

Push = Callable[[dict[str, Any]], None]

CONNECT_TIMEOUT_S = 5
_LINE_LIMIT = 1 << 25

# Runs on the node before anything of UGRO is there: `python -c BOOT NODE_DIR NODE DIGEST`.
_BOOT = """
import os, sys
base, node, digest = os.path.expanduser(sys.argv[1]), sys.argv[2], sys.argv[3]
root = os.path.join(base, "runtime", digest)
if not os.path.isdir(root):
    import base64, io, shutil, tempfile, zipfile
    print("UGRO-SEND", flush=True)
    data = base64.b64decode(sys.stdin.buffer.readline())
    os.makedirs(os.path.dirname(root), mode=0o700, exist_ok=True)
    part = tempfile.mkdtemp(dir=os.path.dirname(root))
    zipfile.ZipFile(io.BytesIO(data)).extractall(part)
    try:
        os.rename(part, root)
    except OSError:
        shutil.rmtree(part)
sys.path.insert(0, root)
from ansible_collections.ugro.cluster.plugins.module_utils.session import main
print("UGRO-READY", flush=True)
main(sys.argv[1], node)
"""


@functools.cache
def _runtime() -> tuple[str, bytes]:
    """Return the digest of the node code and the zip archive that holds it."""
    files = sorted(paths.module_utils_dir().glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in files:
            zipped.write(file, f"ansible_collections/ugro/cluster/plugins/module_utils/{file.name}")
    return digest.hexdigest()[:16], archive.getvalue()


def runtime_path() -> str:
    """Return where the node code lies on a node, relative to its `node_dir`."""
    return f"runtime/{_runtime()[0]}/ansible_collections/ugro/cluster/plugins/module_utils"


def ssh_argv(node: Node, *, fresh: bool = False) -> list[str]:
    """Return the `ssh` command up to and including the destination.

    Args:
        node: where to.
        fresh: make a connection of its own: the shared one may hang when the node was lost.
    """
    control = (
        ["-o", "ControlPath=none"]
        if fresh
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


def describe_ssh(node: Node) -> str:
    """Return the destination as a person would type it."""
    user = f"{node.user}@" if node.user else ""
    port = f" -p {node.port}" if node.port != 22 else ""
    return f"ssh{port} {user}{node.address}"


def _ssh_error(node: Node, stderr: str) -> NodeError:
    """Turn what ssh said into one line with the next step."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("@")]
    said = lines[-1] if lines else "the connection was closed"
    if "IDENTIFICATION HAS CHANGED" in stderr:
        said = "the host key has changed since it was pinned"
        step = (
            f"if {node.name} was reinstalled, run `ssh-keygen -R {node.address}` and `ugro nodes add` again; else stop"
        )
    elif "Host key verification failed" in stderr:
        step = "pin its host key first: `ugro nodes add` shows and pins it"
    elif "Permission denied" in stderr:
        step = f"let your key in: `ssh-copy-id {node.user + '@' if node.user else ''}{node.address}`"
    elif "Could not resolve" in stderr:
        step = "correct ansible_host in the inventory"
    else:
        step = f"see that it is on and that `{describe_ssh(node)} true` works"
    return NodeError(f"{node.name}: {describe_ssh(node)}", said, step)


class Session:
    """A running conversation with one node. Make it with `Session.open`.

    Attributes:
        node: the node it talks to.
        clock_offset_s: how far the node's clock is ahead of this machine's, in seconds.
        latency_ms: time of one round trip.
        last_heard: `time.monotonic()` of the last line from the node.
        closed: whether the node's side has ended.
    """

    def __init__(self, node: Node, process: asyncio.subprocess.Process, on_push: Push | None) -> None:
        self.node = node
        self.on_push = on_push
        self.on_lost: Callable[[Session], Awaitable[None] | None] | None = None
        self.clock_offset_s = 0.0
        self.latency_ms = 0.0
        self.last_heard = time.monotonic()
        self._process = process
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._closing = False
        self.closed = False

    @classmethod
    async def open(
        cls, node: Node, on_push: Push | None = None, *, fresh: bool = False, timeout_s: float = 15.0
    ) -> Session:
        """Connect and start the session program.

        Raises:
            NodeError: the node cannot be reached, or its Python cannot run the program.
        """
        digest, archive = _runtime()
        program = [node.python, "-c", _BOOT, node.node_dir, node.name, digest]
        if node.connection == "local":
            argv = [str(Path(node.python).expanduser()), *program[1:]]
        else:
            paths.control_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
            argv = [*ssh_argv(node, fresh=fresh), f"exec {shell_line(program)}"]
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            start_new_session=True,  # Ctrl-C in the terminal is for `ugro`, which decides what it means
        )
        session = cls(node, process, on_push)
        try:
            await asyncio.wait_for(session._handshake(archive), timeout_s)
        except TimeoutError:
            await session.close()
            raise NodeError(
                f"{node.name}: {describe_ssh(node)}",
                f"no answer in {timeout_s:g} s",
                f"see that it is on and that `{describe_ssh(node)} true` works",
            ) from None
        except BaseException:
            await session.close()
            raise
        return session

    async def _handshake(self, archive: bytes) -> None:
        assert self._process.stdout and self._process.stdin and self._process.stderr
        while True:
            line = await self._process.stdout.readline()
            if line.startswith(b"UGRO-READY"):
                break
            if line.startswith(b"UGRO-SEND"):
                self._process.stdin.write(base64.b64encode(archive) + b"\n")
                await self._process.stdin.drain()
            elif not line:
                raise await self._why_closed()
            # anything else is a banner of the login shell
        self._reader = asyncio.create_task(self._read())
        before = time.time()
        hello = await self.call("hello")
        after = time.time()
        self.latency_ms = round(1000 * (after - before), 2)
        self.clock_offset_s = round(hello["t"] - (before + after) / 2, 4)

    async def _why_closed(self) -> NodeError:
        assert self._process.stderr
        try:
            # Not to the end: a multiplexing master in the background keeps its end of the pipe open.
            stderr = (await asyncio.wait_for(self._process.stderr.read(1 << 16), 1.0)).decode(errors="replace")
        except TimeoutError:
            stderr = ""
        code = await self._process.wait()
        if self.node.connection == "ssh" and code == 255:
            return _ssh_error(self.node, stderr)
        said = stderr.strip().splitlines()
        return NodeError(
            f"{self.node.name}: start {self.node.python}",
            said[-1] if said else f"it ended with code {code}",
            "set ansible_python_interpreter to a Python 3.9 or newer",
        )

    async def _read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            self.last_heard = time.monotonic()
            message = json.loads(line)
            if "push" in message:
                if self.on_push:
                    self.on_push(message)
                continue
            waiting = self._waiting.pop(message["id"], None)
            if waiting and not waiting.done():
                waiting.set_result(message)
        self._fail_waiting()
        if not self._closing and self.on_lost:
            result = self.on_lost(self)
            if result is not None:
                await result

    def _fail_waiting(self) -> None:
        self.closed = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(
                    NodeError(f"{self.node.name}: session", "the connection was lost", "see `ugro check`")
                )
        self._waiting.clear()

    async def call(self, method: str, *, timeout_s: float = 20.0, **params: Any) -> Any:
        """Call `do_<method>` on the node and return its result.

        Raises:
            NodeError: the call failed there, took longer than `timeout_s`, or the connection was lost.
        """
        assert self._process.stdin
        self._next_id += 1
        number = self._next_id
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            line = json.dumps({"id": number, "method": method, "params": params}) + "\n"
            self._process.stdin.write(line.encode())
            await self._process.stdin.drain()
            message = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise NodeError(
                f"{self.node.name}: {method}", f"no answer in {timeout_s:g} s", "see `ugro check`"
            ) from None
        except (ConnectionError, BrokenPipeError) as error:
            raise NodeError(
                f"{self.node.name}: {method}", str(error) or "connection lost", "see `ugro check`"
            ) from error
        finally:
            self._waiting.pop(number, None)
        if "error" in message:
            raise NodeError(f"{self.node.name}: {method}", message["error"])
        return message["result"]

    async def close(self) -> None:
        """End the session; jobs go on."""
        self._closing = True
        if self._process.stdin:
            self._process.stdin.close()
        if self._process.returncode is None:
            try:
                await asyncio.wait_for(self._process.wait(), 0.5)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        if self._reader and self._reader is not asyncio.current_task():
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        self._fail_waiting()


def shell_line(program: Sequence[str]) -> str:
    """Quote a command for the node's login shell, which alone can expand a `~/` at the front of a word."""
    return " ".join("~/" + shlex.quote(word[2:]) if word.startswith("~/") else shlex.quote(word) for word in program)


async def open_sessions(nodes: Sequence[Node]) -> dict[str, Session | NodeError]:
    """Open a session to every node at once; the error takes the session's place where one fails."""
    results = await asyncio.gather(*(Session.open(node) for node in nodes), return_exceptions=True)
    opened: dict[str, Session | NodeError] = {}
    for node, result in zip(nodes, results, strict=True):
        if isinstance(result, NodeError | Session):
            opened[node.name] = result
        elif isinstance(result, OSError):
            opened[node.name] = NodeError(f"{node.name}: start a session", str(result), "see `ugro check`")
        else:
            raise result
    return opened


async def report(session: Session) -> dict[str, Any]:
    """Return a node's readings (`session.do_report`) with `clock_offset_s` and `latency_ms`."""
    node = session.node
    result: dict[str, Any] = await session.call(
        "report", address=node.address, train_python=node.train_python, timeout_s=15.0
    )
    result["clock_offset_s"] = session.clock_offset_s
    result["latency_ms"] = session.latency_ms
    return result


async def _report_or_error(session: Session | NodeError) -> dict[str, Any] | NodeError:
    if isinstance(session, NodeError):
        return session
    try:
        return await report(session)
    except NodeError as error:
        return error


def report_all(nodes: Sequence[Node]) -> dict[str, dict[str, Any] | NodeError]:
    """Read every node at once. A node that cannot be read has its error in place of the report."""

    async def run() -> dict[str, dict[str, Any] | NodeError]:
        sessions = await open_sessions(nodes)
        try:
            reports = await asyncio.gather(*(_report_or_error(sessions[node.name]) for node in nodes))
        finally:
            await close_all(sessions.values())
        return dict(zip((node.name for node in nodes), reports, strict=True))

    return asyncio.run(run())


async def close_all(sessions: Any) -> None:
    """Close every session among `sessions`, at once."""
    await asyncio.gather(*(session.close() for session in sessions if isinstance(session, Session)))


__all__ = ["Session", "close_all", "open_sessions", "report", "report_all", "ssh_argv"]
