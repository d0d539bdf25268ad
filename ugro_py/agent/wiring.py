"""Which parts run beside the agent's loop, and what each needs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from ugro_py import paths
from ugro_py.agent.orphans import Orphans
from ugro_py.agent.parts import Run

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ugro_py.agent.process import Agent

Maker = Callable[[], Run]


def part_makers(agent: Agent) -> Mapping[str, tuple[Maker, bool]]:
    """Return by name what makes each part, and whether it has to be made anew when the inventory changes."""

    def health() -> Run:
        from ugro_py.health.sweeper import Sweeper

        async def run(stop: asyncio.Event) -> None:
            sweeper = agent.sweeper = Sweeper(agent.cluster, agent.store)
            agent.on_inventory = sweeper.use
            sweeper.on_sweep = functools.partial(agent.clock.add, "sweep")
            await sweeper.run(stop)

        return run

    def alerts() -> Run:
        from ugro_py.alerts.alerter import Alerter

        return Alerter(agent.store, agent.cluster.settings).run

    def api() -> Run:
        async def run(stop: asyncio.Event) -> None:
            # Loading and describing the routes takes seconds on a busy machine: the lease must be renewed meanwhile.
            app, serve = await asyncio.to_thread(_loaded, agent)
            socket = paths.agent_socket()
            shared = not socket.is_relative_to(paths.data_dir())
            await serve(app, socket, stop=stop, shared=shared, listen=agent.listen, dashboard=agent.dashboard)

        return run

    def orphans() -> Run:
        return Orphans(agent.store, agent.cluster).run

    def loki() -> Run:
        from ugro_py.loki.part import shipper_of

        shipper = shipper_of(agent.store, agent.cluster.settings, functools.partial(agent.clock.add, "loki"))
        return shipper.run if shipper is not None else _nothing

    return {
        "orphans": (orphans, True), "health": (health, False), "alerts": (alerts, True), "api": (api, False),
        "loki": (loki, True),
    }  # fmt: skip


async def _nothing(stop: asyncio.Event) -> None:
    await stop.wait()


def _loaded(agent: Agent) -> tuple[FastAPI, Callable[..., Awaitable[None]]]:
    """Return the API's application, and what serves it."""
    from ugro_py.api.app import create_app
    from ugro_py.api.server import serve

    return create_app(agent), serve
