"""`ugro drill`: through the agent where one runs, which does it for a job's owner; else in the caller's own store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ugro_py.api.client import connect, job_path

if TYPE_CHECKING:
    from ugro_py.state import Store
    from ugro_py.users import Person

_MARGIN_S = 60.0


def do(job: str, values: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """Do a drill on a job and return what it measured (`ugro_py.drill.Result`).

    Args:
        job: its name.
        values: as `ugro_py.api.models.Drill` has them.
        tell: is given a line for each thing that happens; from an agent all of them at the end.

    Raises:
        RightsError: the job is somebody else's, or a machine is to reboot, and the caller is no admin.
        NotFoundError: there is no such job, rank or node.
        UsageError: it makes no sense now, or it takes `--yes`.
        NodeError: the node cannot be reached, or cannot do it.
    """
    client = connect()
    if client is not None:
        done = client.post(job_path(job, "drill"), values, timeout_s=values["timeout_s"] + _MARGIN_S)
        for line in done["lines"]:
            tell(line)
        return dict(done["result"])
    from ugro_py import users
    from ugro_py.audit import audited_here
    from ugro_py.state import Store

    with Store.open() as store, audited_here(store, "drill", job, action=values["action"]):
        return here(store, users.me(), job, values, tell)


def here(
    store: Store, person: Person, job: str, values: Mapping[str, Any], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Do a drill in this process; see `do`."""
    import asyncio

    from ugro_py import drill

    named = {key: values[key] for key in ("action", "rank", "node", "seconds", "power")}
    target = drill.choose(store, job, **named)
    options = {"timeout_s": values["timeout_s"], "sure": values["yes"], "tell": tell}
    return asyncio.run(drill.run(store, job, target, person=person, **options)).as_json()


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was measured, for a terminal."""

    def seconds(key: str) -> str:
        return "-" if result[key] is None else f"{result[key]:.2f} s"

    where = f"rank {result['rank']} on {result['node']}" if result["rank"] is not None else result["node"]
    rows = [
        ("drill", f"{result['action']}, {where}, job {result['job']}, attempt {result['attempt']}"),
        ("noticed", f"{seconds('detection_s')}  {result['detected']}".rstrip()),
        ("next attempt", seconds("restart_s")),
        ("trains again", f"{seconds('recovery_s')}  {result['recovered_by']}".rstrip()),
        ("job", result["status"]),
    ]
    for name, text in rows:
        yield f"{name:<13} {text}"
