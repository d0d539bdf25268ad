"""What a launch would do, and nothing done: nodes, ranks, GPUs, and the exact commands (`ugro launch --dry-run`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible_collections.ugro.cluster.plugins.module_utils.attempt import filled

from ugro_py.errors import AllocationError
from ugro_py.launch import Launcher
from ugro_py.plan import Gang, new_token, node_spec
from ugro_py.ready import NotFreeError, Ready
from ugro_py.runtime import runtime_path
from ugro_py.transport import close_all

if TYPE_CHECKING:
    from ugro_py.queue.forecast import Forecast


async def plan(launcher: Launcher, wait: bool = True) -> dict[str, Any]:
    """Return what a launch would do as JSON values: ranks, and the command of each node. Nothing is kept or copied.

    Args:
        launcher: of a request that nothing was done with yet.
        wait: what would have to wait for GPUs is told as `would_wait`; False raises NotFreeError then.

    Raises:
        UgroError: a launch would be refused, or nodes do not answer.
    """
    try:
        ready = await launcher.ready(dry_run=True)
    except NotFreeError as error:
        if not wait:
            raise
        return {"job": launcher.request.name, "job_id": launcher.request.name, "would_wait": str(error)}
    await close_all(ready.sessions.values())
    gang = Gang(launcher.request.name, 1, tuple(ready.placements), ready.master_addr, ready.master_port, new_token())
    specs = {name: _spec(launcher, ready, gang, name) for name in gang.nodes}
    return {
        "job": gang.job,
        "job_id": gang.job,
        "master": f"{gang.master_addr}:{gang.master_port}",
        "world_size": gang.world_size,
        "blockers": ready.blockers,
        "ranks": [
            {"rank": place.rank, "node": place.node, "local_rank": place.local_rank, "gpu": place.gpu.uuid,
             "gpu_name": place.gpu.name, "vram_gb": place.gpu.vram_gb}
            for place in gang.placements
        ],
        "commands": {name: _commands(ready, gang, name, spec) for name, spec in specs.items()},
        "env": {name: {k: v for k, v in spec["env"].items() if k != "UGRO_TOKEN"} for name, spec in specs.items()},
    }  # fmt: skip


async def plan_in_turn(launcher: Launcher, said: Forecast, wait: bool = True) -> dict[str, Any]:
    """Return what `plan` does, and what the queue would say: `would_wait` and `would_fail`, empty where it would not.

    Ranks and commands are those that the job would get if its turn were now.

    Raises:
        AllocationError: it would wait, and shall not.
        UgroError: as `plan`.
    """
    if said.waits and not wait:
        raise AllocationError("start now", said.waits, "leave --no-wait out")
    if said.gpus is not None:
        launcher.request = replace(launcher.request, gpus=said.gpus)
    found = await plan(launcher, wait)
    return {**found, "would_wait": said.waits or found.get("would_wait", ""), "would_fail": said.fails}


def _commands(ready: Ready, gang: Gang, name: str, spec: Mapping[str, Any]) -> list[list[str]]:
    """Return the commands of a node with its paths filled in, as the node itself will."""
    node = ready.nodes[name]
    words = {
        "{python}": node.train_python,
        "{attempt}": f"{node.node_dir}/{name}/jobs/{gang.job}/{gang.attempt}",
        "{rank_exec}": f"{node.node_dir}/{runtime_path()}/rank_exec.py",
    }
    return [filled(start["command"], words) for start in spec["launches"]]


def _spec(launcher: Launcher, ready: Ready, gang: Gang, name: str) -> dict[str, Any]:
    node = ready.nodes[name]
    return node_spec(gang, node, launcher.request, launcher.cluster, ready.reports[name], len(gang.ranks_of(name)))
