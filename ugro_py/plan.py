"""Turn a placement into what each node must run. Pure: values in, values out.

With as many ranks on every node, one torchrun per node starts them. torchrun wants the same number on each node, so
where nodes differ there is one torchrun per rank, its GPU pinned; the global ranks are the same either way.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ugro_py.cluster import Cluster, Node
from ugro_py.request.job import TRAIN_SCRIPT, JobRequest
from ugro_py.scheduler import Placement

STOP_GRACE_S = 10.0


@dataclass(frozen=True)
class Gang:
    """All that the nodes of one attempt share.

    `world_size_wanted` is how many ranks the job began with, where a retry had to go on with fewer; 0 where it has not.
    `log_limit` is how many bytes of each log are kept.
    """

    job: str
    attempt: int
    placements: tuple[Placement, ...]
    master_addr: str
    master_port: int
    token: str
    resume_from: str = ""
    world_size_wanted: int = 0
    log_limit: int = 2 << 30

    @property
    def nodes(self) -> list[str]:
        """The nodes in rank order."""
        return list(dict.fromkeys(place.node for place in self.placements))

    @property
    def world_size(self) -> int:
        return len(self.placements)

    def ranks_of(self, node: str) -> list[Placement]:
        return [place for place in self.placements if place.node == node]

    def numbers_on(self, node: str) -> list[int]:
        """Return the ranks of a node."""
        return [place.rank for place in self.ranks_of(node)]

    @property
    def even(self) -> bool:
        """Whether every node has as many ranks."""
        return len({len(self.ranks_of(node)) for node in self.nodes}) == 1


def new_token() -> str:
    """Return a fresh 128-bit token: the rendezvous id, and the mark in the environment of every process of a gang."""
    return secrets.token_hex(16)


def node_token(token: str, node: str) -> str:
    """Return a gang's token on one node: logical nodes share a machine, and each sweeps only what is its own."""
    return f"{token}.{node}"


def program(request: JobRequest, cluster: Cluster) -> list[str]:
    """Return the script and its arguments, `{data}` and `{model}` standing for what was copied to the node."""
    if request.script is not None:
        return [request.script, *request.args]
    defaults = cluster.training
    accumulation = request.gradient_accumulation or defaults.gradient_accumulation
    batch_size = request.batch_size or defaults.batch_size_per_gpu
    return [
        TRAIN_SCRIPT,
        *("--model-name", "{model}" if is_path(request.model) else request.model),
        *("--dataset-name", "{data}" if is_path(request.dataset) else request.dataset),
        *("--num-epochs", str(request.epochs)),
        *(("--batch-size", str(batch_size)) if batch_size else ()),
        *("--gradient-accumulation", str(accumulation)),
        *("--job-id", request.name),
        *request.args,
    ]


def is_path(source: str) -> bool:
    """Whether a checked model or data set is a path on the controller."""
    return source.startswith("/")


def node_spec(
    gang: Gang, node: Node, request: JobRequest, cluster: Cluster, report: Mapping[str, Any], ranks_here: int
) -> dict[str, Any]:
    """Return what `node` must run: the content of its `spec.json`.

    Args:
        gang: the attempt.
        node: which node.
        request: the job.
        cluster: for the training defaults.
        report: the node's readings (interface, cpu count).
        ranks_here: ranks on the same machine, other logical nodes included; they share its cores.
    """
    mine = gang.ranks_of(node.name)
    kind = mine[0].gpu.kind
    interface = report["node"].get("interface")
    threads = max(1, int(report["node"].get("cpu_count") or 1) // max(1, ranks_here))
    env = {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    if interface:
        env |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": f"={interface}"}
    env |= request.env
    token = node_token(gang.token, node.name)
    env |= {
        "UGRO_JOB_ID": gang.job,
        "UGRO_ATTEMPT": str(gang.attempt),
        "UGRO_TOKEN": token,
        "UGRO_RESUME_FROM": gang.resume_from,
        # What a person named must not give way to a start from scratch, as a retry's checkpoint may.
        "UGRO_RESUME_REQUIRED": "1" if request.resume and gang.resume_from == request.resume else "",
    }
    if gang.world_size_wanted:
        env["UGRO_WORLD_SIZE_WANTED"] = str(gang.world_size_wanted)
    if kind == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    script = program(request, cluster)
    groups: Sequence[Sequence[Placement]] = [mine] if gang.even else [[place] for place in mine]
    return {
        "job": gang.job,
        "attempt": gang.attempt,
        "token": token,
        "node": node.name,
        "python": node.train_python,
        "kind": kind,
        "world_size": gang.world_size,
        "stop_grace_s": cluster.settings.grace_s,
        "peers": _peers(gang, node, cluster),
        "env": env,
        "launches": [
            {
                "ranks": [place.rank for place in group],
                "gpus": [place.gpu.uuid for place in group],
                "command": torchrun_command(gang, node, group, script),
            }
            for group in groups
        ],
    }


def _peers(gang: Gang, node: Node, cluster: Cluster) -> list[str]:
    """Return the addresses of the gang's nodes on other machines."""
    addresses = [cluster.node(name).address for name in gang.nodes]
    return [address for address in addresses if address != node.address and node.connection != "local"]


def torchrun_command(gang: Gang, node: Node, group: Sequence[Placement], script: Sequence[str]) -> list[str]:
    """Return the torchrun command of one group of ranks on one node, as an argument list.

    `{python}`, `{attempt}` and `{rank_exec}` become the node's own paths there. The rendezvous is static: with c10d
    torchrun ignores the node rank. `--local-addr` keeps it from asking a resolver that may not know the host.
    """
    nodes = gang.nodes if gang.even else [str(place.rank) for place in gang.placements]
    node_rank = nodes.index(node.name) if gang.even else group[0].rank
    # Behind `--` no word of the script's is taken for one of torchrun's: it would refuse `--n` as ambiguous.
    # `-u` and the interpreter only fit Python; any other program is started as it is.
    is_python = script[0].endswith(".py")
    return [
        *("{python}", "-m", "torch.distributed.run"),
        *("--nnodes", str(len(nodes)), "--nproc-per-node", str(len(group)), "--node-rank", str(node_rank)),
        *("--master-addr", gang.master_addr, "--master-port", str(gang.master_port)),
        *("--rdzv-id", gang.token, "--local-addr", node.address, "--max-restarts", "0"),
        *("--no-python", "--", "{python}", "-S", "{rank_exec}", "{attempt}"),
        *(("{python}", script[0]) if is_python else (f"./{script[0]}",)),
        *script[1:],
    ]
