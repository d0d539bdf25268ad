"""Pushes lines of logs to Loki over its push API: the format, the request, and what its answers mean."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

PUSH = "/loki/api/v1/push"
CONNECTION_TIMEOUT_S = 10.0
PUSH_TIMEOUT_S = 20.0
"""A push that takes longer is broken off: a receiver that is slow must not be waited for by anything else."""
_MOST_SAID = 4096


@dataclass(frozen=True)
class Stream:
    """Lines with the same labels; each value is (nanoseconds since 1970, line), in order of time."""

    labels: tuple[tuple[str, str], ...]
    values: Sequence[tuple[int, str]]


class PushError(Exception):
    """Loki did not take a push.

    Attributes:
        status: its HTTP status; None where there was no answer.
        wait_s: how long it asked to be let alone; None where it said nothing of that.
    """

    def __init__(self, text: str, status: int | None = None, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.wait_s = wait_s

    @property
    def for_good(self) -> bool:
        """Whether it will never take these lines: they are too old, too long, or too many at once.

        Any other answer (a wrong password, a wrong address, a limit, a fault) may be another once somebody mends it.
        """
        return self.status in (400, 413, 422)


def body(streams: Sequence[Stream]) -> bytes:
    """Return a push as JSON: times are strings of nanoseconds."""
    pushed = [
        {"stream": dict(stream.labels), "values": [[str(at), line] for at, line in stream.values]} for stream in streams
    ]
    return json.dumps({"streams": pushed}, ensure_ascii=False).encode()


class Pusher:
    """Pushes to one Loki.

    Args:
        url: its address, `http://host:3100` or the whole path of its push API.
        tenant: sent as `X-Scope-OrgID`; "" for a Loki without tenants.
        token_file: holds a bearer token or, with `user`, that one's password; read at each push.
        user: who asks, in HTTP's basic authentication; "" for a bearer token, or for nobody.
        ca_file: certificates to trust instead of the system's (PEM).
        timeout_s: after so long a push is broken off.
    """

    def __init__(
        self,
        url: str,
        tenant: str = "",
        token_file: Path | None = None,
        *,
        user: str = "",
        ca_file: Path | None = None,
        timeout_s: float = PUSH_TIMEOUT_S,
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        path = parts.path.rstrip("/")
        self._path = path if path.endswith("/push") else path + PUSH
        self._tenant, self._token_file, self._timeout_s = tenant, token_file, timeout_s
        self._user, self._ca_file = user, ca_file
        self.shown = f"{parts.scheme}://{self._host}" + (f":{self._port}" if self._port else "")

    async def push(self, streams: Sequence[Stream]) -> None:
        """Push, without holding up anything else.

        Raises:
            PushError: it was not taken.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[PushError | None] = loop.create_future()
        connection = self._connection()

        def tell(result: PushError | None) -> None:
            if not done.done():
                done.set_result(result)

        def work() -> None:
            result = self._push(connection, body(streams))
            # The loop may have ended meanwhile: then nobody waits for it any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, result)

        # A daemon of its own: one that hangs must hold up neither the others nor the end of the process.
        threading.Thread(target=work, name="loki", daemon=True).start()
        try:
            error = await asyncio.wait_for(done, self._timeout_s)
        except TimeoutError:
            error = PushError(f"no answer in {self._timeout_s:g} s")
        finally:
            _end(connection)  # whatever it still waits for: its thread ends
        if error is not None:
            raise error

    def _connection(self) -> http.client.HTTPConnection:
        timeout_s = min(CONNECTION_TIMEOUT_S, self._timeout_s)
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:  # SSLError is one too
            raise PushError(f"ca_file {self._ca_file}: {error.strerror or error}") from None
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)

    def _authorization(self) -> dict[str, str]:
        secret = self._token_file.read_text(encoding="utf-8").strip() if self._token_file is not None else ""
        if self._user:
            pair = base64.b64encode(f"{self._user}:{secret}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    def _push(self, connection: http.client.HTTPConnection, data: bytes) -> PushError | None:
        headers = {"Content-Type": "application/json", "User-Agent": "ugro"}
        if self._tenant:
            headers["X-Scope-OrgID"] = self._tenant
        try:
            connection.request("POST", self._path, data, headers | self._authorization())
            answer = connection.getresponse()
            if 200 <= answer.status < 300:
                return None
            said = " ".join(answer.read(_MOST_SAID).decode("utf-8", "replace").split())[:300]
            return PushError(
                f"{answer.status} {said}".strip(), answer.status, _seconds(answer.getheader("Retry-After"))
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            return PushError(f"{type(error).__name__}: {error}"[:300])
        finally:
            connection.close()


def _end(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _seconds(header: str | None) -> float | None:
    """Return what `Retry-After` says in seconds: it may be a number of them or a date; None where it is neither."""
    if header is None:
        return None
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until.tzinfo is not None else None
