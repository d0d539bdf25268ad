"""The button Check of the form Launch: what the job would do, and what the queue would say. Nothing is started."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Request

from ugro_py import users
from ugro_py.api.auth import Caller
from ugro_py.api.view import AgentView
from ugro_py.errors import NodeError, StateError
from ugro_py.request.job import JobRequest
from ugro_py.ssh import shell_line

if TYPE_CHECKING:
    from ugro_py.queue.forecast import Forecast

_LONGEST_S = 60.0
_WHAT = "check the job"
OF_ONE, OF_ALL = 2, 8
"""Checks of one user, and of all users, at a time: each opens a connection to every node."""


class Turns:
    """Who looks at the nodes at the moment. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looking: Counter[str] = Counter()

    @contextmanager
    def of(self, user: str) -> Iterator[None]:
        """Have a turn of `user` while the block runs.

        Raises:
            StateError: they, or all together, have as many as they may.
        """
        with self._lock:
            if self._looking[user] >= OF_ONE:
                said = f"{self._looking[user]} of {user}'s jobs are being checked already"
                raise StateError(_WHAT, said, "try again when one of them is done")
            if self._looking.total() >= OF_ALL:
                raise StateError(_WHAT, "others check theirs at the moment", "try again in some seconds")
            self._looking[user] += 1
        try:
            yield
        finally:
            with self._lock:
                self._looking[user] -= 1
                self._looking += Counter()  # leaves out who has none


turns = Turns()


def check(
    request: Request, agent: AgentView, who: Caller, values: Mapping[str, Any], upload: str | None,
    secrets: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Return what a launch would do, as `ugro launch --dry-run` shows it, and what the queue would say.

    `would_wait` and `would_fail` say why; `ranks` is empty where it cannot be told which GPUs the job would get.

    Raises:
        UgroError: it would be refused; or nodes do not answer.
    """
    from ugro_py.queue.forecast import forecast

    asked = request.app.state.submissions.check(who, values, upload, secrets)
    person = who.person
    said = forecast(agent.store, agent.cluster, asked, person.user, person.group)
    with turns.of(person.user):
        try:
            return asyncio.run(_plan(agent, person.user, asked, said))
        except TimeoutError as error:
            came_back = f"not all nodes answered within {_LONGEST_S:g} s"
            raise NodeError(_WHAT, came_back, "see the page Health") from error


async def _plan(agent: AgentView, user: str, asked: JobRequest, said: Forecast) -> dict[str, Any]:
    from ugro_py import dry_run
    from ugro_py.launch import Launcher

    warnings: list[str] = []

    def listen(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "warning":
            warnings.append(str(data["text"]))

    launcher = Launcher(asked, users.cluster_for(agent.cluster, user), agent.store, user, listen)
    async with asyncio.timeout(_LONGEST_S):
        found = await dry_run.plan_in_turn(launcher, said)
    commands = {node: [shell_line(words) for words in each] for node, each in found.get("commands", {}).items()}
    return {"blockers": [], "ranks": [], **found, "commands": commands, "warnings": warnings}
