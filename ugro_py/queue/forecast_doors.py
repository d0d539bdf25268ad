"""What the queue would say of a launch that is only tried out: asked of the agent, or of the caller's own store."""

from __future__ import annotations

from ugro_py.api.client import Client, connect, is_own
from ugro_py.cluster import Cluster
from ugro_py.errors import StateError, UgroError
from ugro_py.queue.enter import own_group
from ugro_py.queue.forecast import Forecast, forecast
from ugro_py.queue.submit import must_wait
from ugro_py.request.job import JobRequest
from ugro_py.state import Store

_PATH = "/v1/queue/foretold"
_KEYS = (
    "nodes", "gpus", "min_vram_gb", "max_vram_gb", "min_nodes", "include", "exclude", "priority", "hold", "after",
    "time_limit_s",
)  # fmt: skip
"""What the queue goes by; code, arguments and environment are nothing to it."""


def ask_forecast(store: Store, cluster: Cluster, request: JobRequest, user: str) -> Forecast:
    """Return what the queue would say now of a checked request; nothing is recorded.

    A launch without an agent passes the queue by where nobody waits and there are no quotas: then it says nothing.

    Args:
        store: the caller's own.
        cluster: the inventory.
        request: of the launch.
        user: the caller.

    Raises:
        NotFoundError: it is to run after a job that does not exist.
        RightsError: a quota is used up, or the priority is above what they may ask for.
    """
    agent = _agent()
    if agent is not None and not is_own(agent.socket):
        return _of(agent, request)
    if agent is None and not must_wait(store, request):
        return Forecast()
    return forecast(store, cluster, request, user, own_group())


def _agent() -> Client | None:
    try:
        return connect()
    except StateError:  # it does not answer: a dry run shows what there is without it
        return None


def _of(agent: Client, request: JobRequest) -> Forecast:
    wanted = request.set_values()
    try:
        said = agent.post(_PATH, {"request": {key: wanted[key] for key in _KEYS if key in wanted}})
    except UgroError as error:
        if isinstance(error, StateError) or error.what == f"POST {_PATH}":  # it is gone, or too old to know
            return Forecast()
        raise
    return Forecast(str(said["would_wait"]), str(said["would_fail"]), said["gpus"])
