"""Talks to the agent over its Unix socket, for `ugro`. Errors come back as the exceptions the agent raised.

Nothing is imported before it is needed: a verb without an agent pays for one look at the file system.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ugro_py import errors, paths

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

TIMEOUT_S = 30.0
STREAM_TIMEOUT_S = 35.0
"""A stream that says nothing for so long is dead: the agent says that it is still there every 10 s."""
_BLOCK = 1 << 16
_KINDS = {
    kind.exit_code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.UgroError)
}


def is_own(socket: Path) -> bool:
    """Say whether the socket is in the caller's own central store, which they can read without the agent too."""
    return socket.parent == paths.data_dir()


def job_path(job: str, *rest: str) -> str:
    """Return the path of what is asked of a job, whatever somebody typed for its name."""
    return "/".join(["/v1/jobs", quote(job, safe=""), *rest])


def connect(*, reading: bool = False) -> Client | None:
    """Return the agent that is responsible for the caller, None where there is none and the caller acts alone.

    Args:
        reading: nothing will be changed: a store that is the caller's own is then read directly, without the agent.

    Raises:
        StateError: there is an agent's socket that is not in the caller's own store, but nobody answers.
    """
    import os

    socket = paths.agent_socket()
    own = is_own(socket)
    if (own and reading) or (not socket.exists() and not os.environ.get("UGRO_AGENT")):
        return None
    from ugro_py.api import unix

    try:
        unix.connect(socket, TIMEOUT_S).close()
    except (ConnectionRefusedError, FileNotFoundError) as error:
        if own:
            return None  # left by an agent that is gone
        raise _no_answer(socket, error) from error
    except OSError as error:
        raise _no_answer(socket, error) from error
    return Client(socket)


def _no_answer(socket: Path, error: OSError) -> errors.StateError:
    advice = "see `systemctl status ugro-agent`, or unset UGRO_AGENT"
    return errors.StateError(f"agent at {socket}", str(error.strerror or error), advice)


class Client:
    """A connection for each request; any method raises what the agent says, or StateError if it is gone."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET request; parameters that are None are left out."""
        with self._request("GET", path, query) as response:
            return self._json(response)

    def post(self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> Any:
        """Return the JSON that a POST request gives."""
        with self._request("POST", path, body=body or {}, timeout_s=timeout_s) as response:
            return self._json(response)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON that a PUT request gives."""
        with self._request("PUT", path, body=body) as response:
            return self._json(response)

    def upload(self, stream: IO[bytes], size: int) -> str:
        """Send the files of a job (`ugro_py.queue.spool_tar.pack`, `size` bytes); returns what `submit` needs."""
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
        with self._request("POST", "/v1/uploads", body=stream, headers=headers) as response:
            return str(self._json(response)["upload"])

    def submit(
        self, request: Mapping[str, Any], upload: str | None = None, secrets: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Put a job into the queue; returns its name and status."""
        found: dict[str, Any] = self.post(
            "/v1/jobs", {"request": dict(request), "upload": upload, "secrets": dict(secrets or {})}
        )
        return found

    def jobs(self, *, everything: bool = False) -> list[dict[str, Any]]:
        """Return the jobs that `ugro ps` lists, all with `everything`: the agent gives so many at a time."""
        found: list[dict[str, Any]] = self.get("/v1/jobs", all=everything)
        more = found if everything else []
        while more:
            more = self.get("/v1/jobs", all=True, before=more[-1]["job"])
            found = [*found, *more]
        return found

    def read(self, path: str, **query: Any) -> Iterator[bytes]:
        """Yield what an answer holds as it comes."""
        with self._request("GET", path, query, timeout_s=None) as response:
            try:
                while block := response.read1(_BLOCK):
                    yield block
                # One of a known length counts down to 0 and isn't closed by that; others are closed by their end.
                if response.length or (response.length is None and not response.isclosed()):
                    raise _gone(self.socket, "the answer was cut off")
            except (OSError, _http_errors()) as error:
                raise _gone(self.socket, str(error)) from error

    def events(self, path: str = "/v1/events/stream", after: object = None, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield server-sent events as `{"id": ..., "kind": ..., "data": ...}`; go on after the id `after`.

        Raises:
            StateError: the agent is gone; call again with the last id to miss nothing.
        """
        headers = {"Last-Event-ID": str(after)} if after is not None else {}
        with self._request("GET", path, query, headers=headers, timeout_s=STREAM_TIMEOUT_S) as response:
            found: dict[str, Any] = {}
            try:
                while line := response.readline():
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if not name and "data" in found:
                        yield found
                        found = {}
                    elif name == "data":
                        found["data"] = json.loads(value)
                    elif name in ("id", "event"):
                        found["kind" if name == "event" else "id"] = value
            except (OSError, _http_errors()) as error:
                raise _gone(self.socket, str(error)) from error

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: Mapping[str, Any] | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = TIMEOUT_S,
    ) -> HTTPResponse:
        asked = {key: value for key, value in (query or {}).items() if value is not None}
        words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in asked.items()}
        url = path + (f"?{urlencode(words, doseq=True)}" if words else "")
        content: Any = json.dumps(body) if isinstance(body, Mapping) else body
        sent = {"Content-Type": "application/json", "Connection": "close", **(headers or {})}
        connection = _connection(self.socket, timeout_s)
        try:
            # Who refuses an upload does not wait for its end: the answer is there although sending broke off.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, url, content, sent)
            response = connection.getresponse()
        except (OSError, _http_errors()) as error:
            connection.close()
            raise _gone(self.socket, str(error)) from error
        if response.status >= 400:
            with response:
                raise _error(response)
        return response

    def _json(self, response: HTTPResponse) -> Any:
        try:
            return json.loads(response.read())
        except (OSError, ValueError, _http_errors()) as error:
            raise _gone(self.socket, str(error)) from error


def _connection(socket: Path, timeout_s: float | None) -> HTTPConnection:
    from http.client import HTTPConnection

    from ugro_py.api import unix

    connection = HTTPConnection("localhost")
    try:
        connection.sock = unix.connect(socket, TIMEOUT_S)
    except OSError as error:
        raise _gone(socket, error.strerror or str(error)) from error
    connection.sock.settimeout(timeout_s)
    return connection


def _http_errors() -> type[Exception]:
    from http.client import HTTPException

    return HTTPException


def _error(response: HTTPResponse) -> errors.UgroError:
    try:
        said = json.loads(response.read())["error"]
        kind = _KINDS.get(said["exit_code"], errors.UgroError)
        return kind(said["what"], said["came_back"], said["next_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return errors.UgroError("ask the agent", f"HTTP status {response.status}", "see its log")


def _gone(socket: Path, came_back: str) -> errors.StateError:
    return errors.StateError(f"agent at {socket}", came_back or "it hung up", "see `ugro agent status`, then try again")
