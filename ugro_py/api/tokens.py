"""The tokens of the API and whose they are: read from a file, and again whenever that was changed."""

from __future__ import annotations

import hmac
import logging
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from ugro_py.errors import StateError

_SHORTEST = 20
_log = logging.getLogger("ugro.api")


def read_tokens(path: Path) -> dict[str, str]:
    """Return token -> user from a file with one `USER TOKEN` a line; `#` begins a comment.

    Raises:
        StateError: the file cannot be read, others can read it too, or a line is not valid.
    """
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StateError(f"token file {path}", "other accounts can read it", f"run `chmod 600 {path}`")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        said = str(getattr(error, "strerror", None) or error)
        raise StateError(f"token file {path}", said, "give a file that can be read") from error
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[1]) < _SHORTEST or not words[1].isascii():
            raise StateError(
                f"token file {path}, line {number}",
                f"is not `USER TOKEN` with a token of {_SHORTEST} characters or more",
                "make one with `openssl rand -hex 24`",
            )  # fmt: skip
        tokens[words[1]] = words[0]
    if not tokens:
        raise StateError(f"token file {path}", "holds no token", "add a line `USER TOKEN`")
    return tokens


def user_of_token(tokens: Mapping[str, str], given: str) -> str | None:
    """Return whose token it is; None for nobody's."""
    found = None
    for token, user in tokens.items():  # all of them: how long it takes tells nothing
        if hmac.compare_digest(token.encode(), given.strip().encode("utf-8", "replace")):
            found = user
    return found


def bearer(header: str) -> str:
    """Return the token of a header `Authorization: Bearer TOKEN`; "" where it has none."""
    scheme, _, given = header.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


class Tokens:
    """Token -> user as the file says now. From any thread.

    A file that cannot be used any more admits nobody, and the log says why: whoever removes it, or a token in it,
    wants somebody out.

    Attributes:
        sure: whether what is known is what the file says; False while it cannot be used, or where there is none (an
            agent without `--listen`, a dashboard of one's own): then nothing is concluded of a token that is not known.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known: Mapping[str, str] = dict(known or {})
        self._path: Path | None = None
        self._mark: object = None
        self._lock = threading.Lock()
        self.sure = known is not None

    def follow(self, path: Path) -> None:
        """Take the tokens of a file from now on.

        Raises:
            StateError: it cannot be used.
        """
        with self._lock:
            self._mark = _mark_of(path)
            self._known, self._path, self.sure = read_tokens(path), path, True

    def now(self) -> Mapping[str, str]:
        """Return the tokens; whether the file was changed costs microseconds to see."""
        with self._lock:
            if self._path is not None:
                self._look(self._path)
            return self._known

    def _look(self, path: Path) -> None:
        mark = _mark_of(path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._known, self.sure = read_tokens(path), True
            _log.info("the token file %s was changed; users: %s", path, ", ".join(sorted(set(self._known.values()))))
        except StateError as error:
            self._known, self.sure = {}, False
            _log.error("nobody is known by a token: %s", error)


def _mark_of(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
