"""Sessions to nodes: one Python program per node over one SSH channel (or a local process).

The program is `plugins/module_utils/session.py`; its source travels to the node once per version
(`ugro_py.runtime`). SSH connections are multiplexed through the same control sockets as Ansible's (`ugro_py.ssh`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ugro_py import session_lines, ssh
from ugro_py.cluster import Node
from ugro_py.errors import NodeError

Push = Callable[[dict[str, Any]], None]

_LINE_LIMIT = 1 << 25


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
        process = await asyncio.create_subprocess_exec(
            *ssh.session_argv(node, fresh=fresh),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            start_new_session=True,  # Ctrl-C in the terminal is for `ugro`, which decides what it means
        )
        session = cls(node, process, on_push)
        try:
            await asyncio.wait_for(session._handshake(), timeout_s)
        except TimeoutError:
            await session.close()
            raise ssh.no_answer(node, timeout_s) from None
        except BaseException as error:
            await session.close()
            if isinstance(error, NodeError) and "control master" in error.came_back and not fresh:
                # ssh's own race on a busy machine: its master was not ready for its first client.
                return await cls.open(node, on_push, fresh=True, timeout_s=timeout_s)
            raise
        return session

    async def _handshake(self) -> None:
        assert self._process.stdout and self._process.stdin and self._process.stderr
        while True:
            line = await self._process.stdout.readline()
            if not line:
                raise await self._why_closed()
            said = session_lines.greeting(line)
            if said == "ready":
                break
            if said == "send":
                self._process.stdin.write(session_lines.code())
                await self._process.stdin.drain()
        self._reader = asyncio.create_task(self._read())
        await self.measure()

    async def measure(self, timeout_s: float = 20.0) -> None:
        """Ask for the time there, and set `latency_ms` and `clock_offset_s` by the answer.

        Raises:
            NodeError: as `call`.
        """
        before = time.time()
        hello = await self.call("hello", timeout_s=timeout_s)
        self.latency_ms, self.clock_offset_s = session_lines.round_trip(hello, before, time.time())

    async def _why_closed(self) -> NodeError:
        assert self._process.stderr
        try:
            # Not to the end: a multiplexing master in the background keeps its end of the pipe open.
            stderr = (await asyncio.wait_for(self._process.stderr.read(1 << 16), 1.0)).decode(errors="replace")
        except TimeoutError:
            stderr = ""
        code = await self._process.wait()
        return ssh.why_closed(self.node, code, stderr)

    async def _read(self) -> None:
        assert self._process.stdout
        try:
            # The last line of a connection that was cut can be half a line.
            while (line := await self._process.stdout.readline()).endswith(b"\n"):
                self.last_heard = time.monotonic()
                self._take(session_lines.message(line))
        except ValueError:
            pass  # a line without end: nothing of ours talks there any more
        finally:
            self._fail_waiting()
        if not self._closing and self.on_lost:
            result = self.on_lost(self)
            if result is not None:
                await result

    def _take(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        if "push" in message:
            if self.on_push:
                self.on_push(message)
            return
        number = message.get("id")
        waiting = self._waiting.pop(number, None) if isinstance(number, int) else None
        if waiting and not waiting.done():
            waiting.set_result(message)

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
            self._process.stdin.write(session_lines.request(number, method, params))
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
        # There is no public way to the transport of a process.
        transport = self._process._transport  # type: ignore[attr-defined]
        # For asyncio a process has ended once its pipes have too, and those stay open until the node's side is gone;
        # ssh's master in the background even holds on to its end of one.
        for pipe in filter(None, map(transport.get_pipe_transport, range(3))):
            pipe.close()
        if self._process.returncode is None:
            # The node's side ends when its input does; that it has is nothing to wait for.
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
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
        transport.close()
        self._fail_waiting()


async def _open_or_error(node: Node) -> Session | NodeError:
    try:
        return await Session.open(node)
    except NodeError as error:
        return error
    except OSError as error:
        return NodeError(f"{node.name}: start a session", str(error), "see `ugro check`")


async def open_sessions(nodes: Sequence[Node]) -> dict[str, Session | NodeError]:
    """Open a session to every node at once; the error takes the session's place where one fails."""
    results = await asyncio.gather(*(_open_or_error(node) for node in nodes), return_exceptions=True)
    opened: dict[str, Session | NodeError] = {}
    for node, result in zip(nodes, results, strict=True):
        if isinstance(result, BaseException) and not isinstance(result, NodeError):
            raise result
        opened[node.name] = result
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


async def close_all(sessions: Any) -> None:
    """Close every session among `sessions`, at once."""
    await asyncio.gather(*(session.close() for session in sessions if isinstance(session, Session)))


__all__ = ["Session", "close_all", "open_sessions", "report"]
