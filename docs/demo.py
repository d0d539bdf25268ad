"""A made-up cluster in a temporary store, served by the real application: for screenshots and for looking around.

python -m docs.demo [PORT [NODES [GPUS]]]   # serve it until Ctrl-C, and print the link that signs in
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from docs import demo_curves
from docs.demo_runs import RUNS, WAITING, Past
from ugro_py import experiments
from ugro_py.api.app import create_app
from ugro_py.api.server import serve
from ugro_py.api.view import Timing
from ugro_py.cluster import Cluster, Node, Settings
from ugro_py.paths import JobPaths
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Gpu, Placement, Request, place
from ugro_py.state import Controller, Store
from ugro_py.state._health import Check
from ugro_py.state.models import allocations, attempts, events, jobs, ranks
from ugro_py.users import Person, me

NODES = (
    ("gpu-master", "192.168.1.100", "RTX 5070 Ti", 12.0),
    ("gpu1", "192.168.1.101", "RTX 4070", 8.0),
    ("gpu2", "192.168.1.102", "RTX 3070 Ti", 8.0),
)
HOT = {
    "node": "gpu2", "check": "gpu_temperature", "severity": "warning",
    "text": "GPU 0 (RTX 3070 Ti) is at 86 °C", "remedy": "clean its fans, or lower the power limit", "value": 86,
}  # fmt: skip


class Demo:
    """The cluster of the seed with some weeks of work behind it; what the application needs of an agent."""

    watches = True

    def __init__(self, folder: Path, nodes: int = len(NODES), gpus: int = 1) -> None:
        self.store = Store.open(f"sqlite:///{folder}/ugro.db")
        self.store.acquire_lease(Controller.me(), 86400.0)  # as an agent does: without one nothing would start
        more = [(f"gpu{n}", f"192.168.1.{100 + n}", *NODES[n % len(NODES)][2:]) for n in range(len(NODES), nodes)]
        made = tuple(
            Node(name, address, "worker" if number else "master", gpu=card, gpu_count=gpus, vram_gb=vram)
            for number, (name, address, card, vram) in enumerate([*NODES, *more])
        )
        settings = Settings(energy_price_per_kwh=0.31)
        self.cluster = Cluster("Home AI Lab", made, folder / "hosts.yml", settings=settings)
        for number, node in enumerate(made):
            cards = [
                Gpu(
                    f"GPU-{number}a7c41d{number}-93e{5 + index}", node.name, index, "cuda", node.gpu or "", node.vram_gb
                )
                for index in range(gpus)
            ]
            self.store.sync_node(node, cards, {})
        self._check()
        for past in RUNS:
            self._run(past)
        for name, user, request in WAITING:
            self.store.create_job(name, user, JobRequest.from_dict({**request, "name": name}).as_dict())
        self._check()
        experiments.ls(self.store, wait_s=None)  # figures are read when somebody looks, and kept

    def timings(self) -> Mapping[str, Timing]:
        """Return what a quiet agent's loops take."""
        return {"schedule": Timing(420, 1.4, 0.003, 0.02), "sweep": Timing(42, 8.1, 0.19, 0.4)}

    def readings(self) -> Mapping[str, Mapping[str, Any]]:
        """Return no readings: the samples of the running job say enough."""
        return {}

    def wake(self) -> None:
        """Do nothing: nobody schedules here."""

    def _check(self) -> None:
        checks = [
            Check("gpu-master", NODES[0][1], "healthy", latency_ms=0.1, unusable={}),
            Check("gpu1", NODES[1][1], "healthy", latency_ms=0.4, unusable={}),
            Check(
                "gpu2", NODES[2][1], "degraded", f"{HOT['text']}; {HOT['remedy']}", "warning", 0.5, [HOT], {}
            ),
        ]  # fmt: skip
        more = self.cluster.nodes[len(NODES) :]
        checks += [Check(node.name, node.address, "healthy", latency_ms=0.4, unusable={}) for node in more]
        self.store.record_checks(checks)

    def keep_fresh(self, stop: threading.Event) -> None:
        """Check the nodes and let the running job go on, until `stop`: what is older than a minute proves nothing."""
        while not stop.wait(5):
            self._check()
            for past in RUNS:
                if past.status == "running":
                    touch(past)

    def _run(self, past: Past) -> None:
        begun = time.time() - past.ago_s
        request = JobRequest.from_dict({**past.request, "name": past.name})
        self.store.create_job(past.name, past.user, request.as_dict())
        self.store.claim(past.name, Controller.me())
        running = past.status == "running"
        wanted = Request(nodes=max(past.nodes, 2 * len(self.cluster.nodes) // 3) if running else past.nodes)
        names = [node.name for node in self.cluster.nodes]
        placements = place(wanted, names, self.store.gpus(), {})
        number = self.store.start_attempt(
            past.name, placements, master_addr=NODES[0][1], master_port=29500, token="demo"
        )
        self.store.set_job(past.name, "running")
        for rank in range(len(placements)):
            self.store.set_rank(past.name, number, rank, status="running", pid=4200 + rank)
        JobPaths(past.name).root.mkdir(parents=True)
        JobPaths(past.name).config.write_text(json.dumps(self._capsule(past, placements), indent=2))
        demo_curves.write(past.name, past.curve, placements, begun)
        for kind, severity, text in past.events:
            self.store.add_event(kind, text, job=past.name, severity=severity)
        took = past.curve.made * past.curve.step_s + 45
        if past.status != "running":
            for rank in range(len(placements)):
                self.store.set_rank(past.name, number, rank, status=past.status, exit_code=past.exit_code)
            self.store.set_attempt(past.name, number, status=past.status, reason=past.reason)
            self.store.release(past.name)
            self.store.set_job(past.name, past.status, past.reason, past.exit_code)
            self._files(past)
        else:
            touch(past)
        self._date(past.name, begun, None if past.status == "running" else begun + took)
        if past.tags:
            self.store.set_tags(past.name, past.tags)
        if past.note:
            self.store.set_note(past.name, past.note)

    @staticmethod
    def _files(past: Past) -> None:
        paths = JobPaths(past.name)
        paths.checkpoints.mkdir()
        for step in range(past.curve.steps // 3, past.curve.made + 1, max(1, past.curve.steps // 3)):
            with (paths.checkpoints / f"step_{step}.pt").open("wb") as file:
                file.truncate(1_320_000_000)  # takes no room: it is all hole
        paths.tensorboard.mkdir()
        (paths.tensorboard / "events.out.tfevents.1768910400.gpu-master").write_bytes(bytes(48_120))

    def _capsule(self, past: Past, placements: list[Placement]) -> dict[str, Any]:
        return {
            "job_id": past.name, "attempt": 1, "user": past.user, "ugro_version": "0.4.0", "cluster": "Home AI Lab",
            "request": past.request, "model": past.request["model"], "dataset": past.request["dataset"],
            "program": ["train_production.py", "--model", past.request["model"], *past.request.get("args", [])],
            "seed": 42, "world_size": len(placements), "master_addr": NODES[0][1], "master_port": 29500,
            "ranks": [
                {"rank": one.rank, "node": one.node, "local_rank": 0, "gpu": one.gpu.uuid, "gpu_name": one.gpu.name,
                 "vram_gb": one.gpu.vram_gb}
                for one in placements
            ],
            "nodes": [
                {"name": one.node, "address": self.cluster.node(one.node).address, "hostname": one.node,
                 "kernel": "6.1.0-28-amd64", "driver": "570.86.10", "cuda": "12.8", "interface": "enp5s0",
                 "gpus": [{"index": 0, "uuid": one.gpu.uuid, "name": one.gpu.name, "vram_total_gb": one.gpu.vram_gb}],
                 "packages": {"python": "3.12.8", "torch": past.torch, "transformers": "4.57.1"}}
                for one in placements
            ],
            "code": {"folder": "train/", "digest": past.digest,
                     "git": {"commit": past.digest * 5, "branch": "main", "diff": ""}},
        }  # fmt: skip

    def _date(self, job: str, begun: float, ended: float | None) -> None:
        """Put a job that was made just now into its own time."""
        start = datetime.fromtimestamp(begun, UTC)
        end = None if ended is None else datetime.fromtimestamp(ended, UTC)
        with self.store.database.write() as connection:
            row = connection.execute(select(jobs.c.id).where(jobs.c.name == job)).scalar_one()
            tries = select(attempts.c.id).where(attempts.c.job_id == row)
            asked = start - timedelta(seconds=6)
            connection.execute(
                update(jobs).where(jobs.c.id == row).values(created_at=asked, started_at=start, ended_at=end)
            )
            spans = {"started_at": start, "ended_at": end}
            connection.execute(update(attempts).where(attempts.c.job_id == row).values(**spans))
            connection.execute(update(ranks).where(ranks.c.attempt_id.in_(tries)).values(**spans))
            connection.execute(
                update(allocations).where(allocations.c.attempt_id.in_(tries)).values(
                    allocated_at=start, released_at=end
                )
            )  # fmt: skip
            ids = list(connection.scalars(select(events.c.id).where(events.c.job_id == row).order_by(events.c.id)))
            last = end or datetime.now(UTC) - timedelta(minutes=3)
            for number, event in enumerate(ids):
                share = number / max(1, len(ids) - 1)
                at = start + (last - start) * (share if number > 2 else number * 0.0004)
                connection.execute(update(events).where(events.c.id == event).values(at=at))


def touch(past: Past) -> None:
    """Make the samples of a running job fresh: a node that said nothing for a while shows no readings."""
    for _, _, path in JobPaths(past.name).event_copies():
        with suppress(FileNotFoundError):
            os.utime(path)


@contextmanager
def served(view: Any, folder: Path, port: int, person: Person | None = None) -> Iterator[str]:
    """Serve the dashboard of `view` at a port of this machine; gives the link that signs `person` in (default: you)."""
    loop = asyncio.new_event_loop()
    app = create_app(view)
    stop, ready = asyncio.Event(), threading.Event()
    trouble: list[BaseException] = []

    async def run() -> None:
        is_up = asyncio.Event()
        task = asyncio.create_task(serve(app, folder / "agent.sock", stop=stop, ready=is_up, dashboard=port))
        waiting = asyncio.create_task(is_up.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        ready.set()
        await task

    def work() -> None:
        try:
            loop.run_until_complete(run())
        except BaseException as error:  # noqa: BLE001  told of by the thread that waits
            trouble.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        ready.wait(60)
        if trouble or app.state.dashboard_port is None:
            raise RuntimeError(f"the dashboard is not served at port {port}") from next(iter(trouble), None)
        yield f"http://localhost:{port}/login?once={app.state.sessions.link(person or me())}"
    finally:
        if not trouble:
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


@contextmanager
def demo(port: int, *size: int) -> Iterator[str]:
    """Serve the made-up cluster at a port, as long as the block lasts; gives the link that signs in.

    `size` may be another number of nodes than that of the seed, and of GPUs in each.
    """
    kept = {name: os.environ.get(name) for name in ("UGRO_DATA", "UGRO_DB")}
    with tempfile.TemporaryDirectory(prefix="ugro-demo-") as name:
        folder = Path(name)
        os.environ["UGRO_DATA"] = name
        os.environ.pop("UGRO_DB", None)
        view = Demo(folder, *size)
        view.store.set_account("user", "ob", role="admin")
        stop = threading.Event()
        fresh = threading.Thread(target=view.keep_fresh, args=(stop,))
        fresh.start()
        try:
            with served(view, folder, port, Person("ob", None)) as link:
                yield link
        finally:
            stop.set()
            fresh.join()
            view.store.close()
            for variable, value in kept.items():
                if value is None:
                    os.environ.pop(variable, None)
                else:
                    os.environ[variable] = value


if __name__ == "__main__":
    with demo(*(map(int, sys.argv[1:]) if len(sys.argv) > 1 else (8080,))) as _link, suppress(KeyboardInterrupt):
        print(_link, flush=True)
        threading.Event().wait()
