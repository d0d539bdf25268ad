"""Where `ugro top` gets what it shows: from the agent of others, else from the caller's own store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from ugro_py.errors import NotFoundError

if TYPE_CHECKING:
    from ugro_py.api.client import Client

Points = list[tuple[float, float | None]]


class Door(Protocol):
    """What can be asked. Any method may wait for the disk or the network, and raises an `UgroError` in vain."""

    def snapshot(self) -> dict[str, Any]:
        """Return the cluster now, see `ugro_py.now.snapshot`."""
        ...

    def curve(self, job: str, column: str, points: int) -> Points:
        """Return (step, mean of the ranks) of a column of a job's metrics; empty where there is none."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


def open_door(inventory: str | None, *, ask: bool = False) -> Door:
    """Return the agent that is responsible for the caller, else the caller's store, as every verb that reads.

    Args:
        inventory: as the user gave it.
        ask: where there is no agent, ask the nodes themselves how they are; a snapshot takes some seconds then.

    Raises:
        StateError: neither can be used.
        InventoryError: the inventory cannot be used.
    """
    from ugro_py.api.client import connect

    client = connect(reading=True)
    return AgentDoor(client) if client is not None else StoreDoor(inventory, ask=ask)


class AgentDoor:
    """Asks the agent over its API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def snapshot(self) -> dict[str, Any]:
        """See `Door`."""
        found: dict[str, Any] = self._client.get("/v1/now")
        return found

    def curve(self, job: str, column: str, points: int) -> Points:
        """See `Door`."""
        from ugro_py.api.client import job_path

        try:
            return _mean(self._client.get(job_path(job, "series"), column=column, points=points))
        except NotFoundError:
            return []

    def close(self) -> None:
        """See `Door`."""


class StoreDoor:
    """Reads the caller's own store and central store; a job whose controller died gets a new one meanwhile."""

    def __init__(self, inventory: str | None, *, ask: bool = False) -> None:
        from ugro_py.agent.inventory import Inventory
        from ugro_py.reconcile import kept_true, reconcile
        from ugro_py.state import Store

        self._inventory, self._ask = Inventory(inventory), ask
        self._store = Store.open()
        reconcile(self._store)
        self._kept = ExitStack()
        self._reconciler = self._kept.enter_context(kept_true(self._store))

    def snapshot(self) -> dict[str, Any]:
        """See `Door`."""
        from ugro_py.top import unwatched

        self._inventory.changed()
        see = unwatched.asked if self._ask else unwatched.stored
        return see(self._store, self._inventory.cluster)

    def curve(self, job: str, column: str, points: int) -> Points:
        """See `Door`."""
        from ugro_py import series

        try:
            return _mean(series.open_job(job).chart(column, points=points).to_json())
        except NotFoundError:
            return []

    def close(self) -> None:
        """See `Door`."""
        self._kept.close()
        if not self._reconciler.is_alive():
            self._store.close()


def _mean(chart: dict[str, Any]) -> Points:
    lines: Sequence[dict[str, Any]] = chart["lines"]
    return list(zip(lines[0]["x"], lines[0]["y"], strict=True)) if lines else []
