"""What the API needs of the agent it belongs to; everything else is in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ugro_py.cluster import Cluster
    from ugro_py.state import Store


@dataclass(frozen=True)
class Timing:
    """How long the rounds of one of the agent's loops took, in seconds."""

    count: int
    total_s: float
    last_s: float
    worst_s: float


class AgentView(Protocol):
    """The agent as the API sees it. All methods return at once and may be called from any thread."""

    @property
    def store(self) -> Store:
        """The state of the cluster."""
        ...

    @property
    def cluster(self) -> Cluster:
        """The inventory as it is now."""
        ...

    @property
    def watches(self) -> bool:
        """Whether it looks at the nodes again and again; without an agent nobody does."""
        ...

    def timings(self) -> Mapping[str, Timing]:
        """Return the timing of each loop by its name: `schedule`, `sweep`, …"""
        ...

    def readings(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the newest readings of each node that answers the health sweep, as `module_utils.probe` makes them."""
        ...

    def wake(self) -> None:
        """The queue or a job has changed: look at it now, not at the next round."""
        ...
