"""Launch a job: verify, allocate, stage, start everywhere at once, follow, collect, release.

`launch` is the whole job in one call; `playbooks/launch.yml` takes the same steps one by one. What a step has done is
in the store and the central store before the next begins, so that a killed controller leaves nothing unknown.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ugro_py import capsule, late, secret_env
from ugro_py.call_off import CalledOffError, unless_called_off
from ugro_py.cluster import Cluster
from ugro_py.display import counted
from ugro_py.errors import AllocationError, JobStoppedError, NodeError, UgroError, UsageError
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang, new_token, node_spec, node_token
from ugro_py.queue import spool
from ugro_py.ready import NotFreeError, Reached, Ready, prepare
from ugro_py.request.job import JobRequest
from ugro_py.saved import save_gang
from ugro_py.scheduler import Placement
from ugro_py.stage import Bundle, checkpoint_bundle, stage, stage_source
from ugro_py.state import Controller, Store
from ugro_py.transport import Session, close_all
from ugro_py.watch import Listener


def check_new(store: Store, request: JobRequest) -> None:
    """Refuse the name of a job that exists.

    Raises:
        UsageError: it does.
    """
    if any(job.name == request.name for job in store.jobs()) or JobPaths(request.name).root.exists():
        raise UsageError(
            f"job name {request.name!r}", "is taken by an earlier job", "choose another --name or leave it out"
        )


# A node copies the code into the attempt's folder before it starts anything; that it lives, keep-alive tells.
_COPY_TIMEOUT_S = 600.0


class Launcher:
    """One launch, step by step. Each step raises UgroError and leaves nothing half-made.

    Args:
        request: a request that `request.check` has passed.
        cluster: the inventory.
        store: the state store.
        user: who asks.
        listener: told of every step, see `watch.Watcher`; "step" has a text for people.
        controller: the process that stays with the job; this one unless given.
        reached: the nodes, where they were asked just now; a retry asks them anew.
        may_wait: GPUs that somebody took in the last moment are worth waiting for: the job stays in the queue.
    """

    def __init__(
        self,
        request: JobRequest,
        cluster: Cluster,
        store: Store,
        user: str,
        listener: Listener | None = None,
        controller: Controller | None = None,
        reached: Reached | None = None,
        *,
        may_wait: bool = False,
    ) -> None:
        self.request = request
        self.cluster = cluster
        self.user = user
        self.tell: Listener = listener or (lambda kind, data: None)
        self.controller = controller or Controller.me()
        self.store = store.acting_as(self.controller)
        self.begun = reached.asked_at if reached else time.time()
        self._reached = reached
        self.sources: spool.Sources
        self.may_wait = may_wait
        self._kept = False
        self._token: str | None = None

    def _step(self, text: str) -> None:
        self.tell("step", {"text": text, "elapsed_s": round(time.time() - self.begun, 2)})

    async def ready(self, *, dry_run: bool = False, decided: Sequence[Placement] | None = None) -> Ready:
        """Verify the nodes and choose the GPUs (`decided`: those of the queue); makes nothing, see `ready.prepare`."""
        reached, self._reached = self._reached, None
        ready = await prepare(self.request, self.cluster, self.store, reached, dry_run=dry_run, decided=decided)
        for warning in ready.warnings:
            self.tell("warning", {"text": warning})
        count = len(ready.placements)
        did = "asked" if ready.blockers else "verified"
        self._step(f"{did} {counted(len(ready.nodes), 'node')}; {counted(count, 'rank')} placed")
        return ready

    def allocate(self, ready: Ready) -> Gang:
        """Create the job, become its controller, allocate the GPUs: from here on the job exists.

        Raises:
            UsageError: the name was taken meanwhile.
            AllocationError: a GPU was taken meanwhile; the job has failed then, or waits (NotFreeError).
        """
        self.store.create_job(self.request.name, self.user, self.request.as_dict())
        self.store.claim(self.request.name, self.controller)
        try:
            return self.next_attempt(ready, self.request.resume or "")
        except UgroError as error:
            if self.may_wait and isinstance(error, AllocationError):
                raise NotFreeError(error.what, error.came_back, error.next_step) from error
            self.end("failed", str(error), error.exit_code)
            raise

    def next_attempt(self, ready: Ready, resume_from: str = "") -> Gang:
        """Record the next attempt with its ranks, and hold its GPUs. After `AwayError` it may be called again."""
        job, token = self.request.name, self._token or new_token()
        known = self.store.attempt(job) if self._token else None
        self._token = token
        number = known.number if known and known.token == token else self.store.start_attempt(
            job, ready.placements, master_addr=ready.master_addr, master_port=ready.master_port, token=token
        )  # fmt: skip
        gang = Gang(
            self.request.name, number, tuple(ready.placements), ready.master_addr, ready.master_port, token,
            resume_from, log_limit=int(self.cluster.settings.log_limit_gb * 2**30),
        )  # fmt: skip
        save_gang(gang, self.cluster, self.store.identity())
        self.store.set_job(gang.job, "starting")
        self._token = None
        return gang

    async def start(self, ready: Ready, gang: Gang) -> None:
        """Stage what the ranks need, then start them on every node at once.

        Where that does not come to its end (an error, a cancel), nothing of the attempt is left on any node that
        answers, and what its ranks wrote is in the central store.

        Raises:
            NodeError: a node could not start.
            UgroError: the files, or the central store, cannot be used.
        """
        try:
            await self._start(ready, gang)
        except BaseException:
            await late.end_partly_started(self, gang, ready.nodes, ready.sessions)
            raise

    async def _start(self, ready: Ready, gang: Gang) -> None:
        secrets = secret_env.of(gang.job, self.request.secret_env)
        hidden = {"secrets": secrets} if secrets else {}
        specs = await self.specs(ready, gang)
        digest = self.code.digest
        folder = spool.wanted(self.request)[spool.CODE].name
        self._step(f"staged {folder}/ ({counted(len(self.code.files), 'file')})")
        results = await asyncio.gather(
            *(
                ready.sessions[name].call("start", spec=specs[name], digest=digest, timeout_s=_COPY_TIMEOUT_S, **hidden)
                for name in gang.nodes
            ),
            asyncio.to_thread(self.write_capsule, ready, gang),
            return_exceptions=True,
        )
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise errors[0]
        self._step(f"started {counted(gang.world_size, 'rank')} on {', '.join(gang.nodes)}")

    async def read_code(self) -> None:
        """Read what is to be copied to the nodes: the code, and a model or data set that is a path here.

        A job that was submitted before runs what was submitted. Comes before `allocate`: a file that cannot be read
        must not cost a job its name.

        Raises:
            UsageError: a file cannot be read.
            StateError: what was submitted is damaged.
        """
        self._kept = spool.exists(self.request.name)
        reading = (spool.load, self.request.name) if self._kept else (spool.read, self.request)
        self.sources = await asyncio.to_thread(*reading)
        for part in self.sources.changed:
            self.tell("warning", {"text": f"the {part} of this job has changed since it was submitted"})

    @property
    def code(self) -> Bundle:
        """The code, once it was read."""
        return self.sources.code

    def write_capsule(self, ready: Ready, gang: Gang) -> None:
        """Keep in the central store what the job is: its capsule, and its code for another attempt or `ugro rerun`."""
        git = self.sources.git or capsule.git(spool.wanted(self.request)[spool.CODE])
        code = self.code
        capsule.write(
            gang, self.request, self.cluster, ready.nodes, ready.reports, self.user, code.digest, git, code.root
        )  # fmt: skip
        if not self._kept:
            spool.commit(spool.write(replace(self.sources, git=git), only_code=True), gang.job)

    async def specs(self, ready: Ready, gang: Gang) -> dict[str, dict[str, Any]]:
        """Stage what `read_code` found, and the checkpoint to go on from; return and keep what each node is to run."""
        resume = await asyncio.to_thread(checkpoint_bundle, Path(gang.resume_from)) if gang.resume_from else None

        async def one(name: str) -> dict[str, Any]:
            session, node = ready.sessions[name], ready.nodes[name]
            await stage(session, self.code)
            others = self.sources.others.items()
            words = {spool.WORDS[part]: await stage_source(session, content) for part, content in others}
            here = sum(ready.nodes[place.node].same_machine(node) for place in gang.placements)
            spec = node_spec(gang, node, self.request, self.cluster, ready.reports[name], here)
            for start in spec["launches"]:
                own = len(start["command"]) - len(self.request.args)  # the rest is the user's, word for word
                start["command"][:own] = [words.get(word, word) for word in start["command"][:own]]
            spec["env"]["UGRO_RESUME_FROM"] = await stage_source(session, resume) if resume else ""
            kept = JobPaths(gang.job).node_spec(gang.attempt, name)
            kept.touch(mode=0o600)  # its environment may hold what is nobody else's business
            kept.write_text(json.dumps(spec, indent=1), encoding="utf-8")
            return spec

        return dict(zip(gang.nodes, await asyncio.gather(*map(one, gang.nodes)), strict=True))

    async def stop_started(self, gang: Gang, sessions: Mapping[str, Session]) -> dict[str, NodeError]:
        """Stop whatever of the gang has started; returns the nodes that could not be asked, and why.

        A node that does not answer is fenced off by the attempt's number.

        Raises:
            LostControlError: the job is another controller's, which may follow what runs there.
        """
        self.store.check_control(gang.job)

        async def one(name: str, session: Session) -> None:
            if session.closed:
                raise NodeError(f"{name}: stop", "the connection was lost", "see `ugro check`")
            key: dict[str, Any] = {"job": gang.job, "attempt": gang.attempt, "token": node_token(gang.token, name)}
            await session.call("stop", **key, reason="start failed", grace_s=0.0)

        results = await asyncio.gather(*(one(*pair) for pair in sessions.items()), return_exceptions=True)
        return {name: said for name, said in zip(sessions, results, strict=True) if isinstance(said, NodeError)}

    def end(self, status: str, reason: str = "", exit_code: int = 0) -> None:
        """Release the GPUs and record how the job ended."""
        self.store.release(self.request.name)
        self.store.set_job(self.request.name, status, reason, exit_code)
        self.store.unclaim(self.request.name, self.controller)


async def start_job(launcher: Launcher) -> tuple[Ready, Gang]:
    """Take a checked request to running supervisors, all or nothing.

    Raises:
        NotFreeError: the job waits: somebody took its GPUs, or held it.
        JobStoppedError: it was stopped meanwhile.
        UgroError: it could not be started.
    """
    ready = await launcher.ready()
    try:
        await launcher.read_code()
        gang = launcher.allocate(ready)
        try:
            await unless_called_off(launcher.store, gang.job, launcher.start(ready, gang))
        except BaseException as error:
            not_started(launcher, gang, error)
            raise
    except BaseException:
        await close_all(ready.sessions.values())
        raise
    return ready, gang


def not_started(launcher: Launcher, gang: Gang, error: BaseException) -> None:
    """Record that an attempt came to nothing, by `error`: the job has ended then, or waits because it is held.

    Raises:
        NotFreeError: it was held, and waits.
        JobStoppedError: it was stopped.
    """
    store, reason = launcher.store, "the launch was interrupted"
    if isinstance(error, UgroError | OSError):
        reason = str(error)
    if not isinstance(error, CalledOffError):
        store.set_attempt(gang.job, gang.attempt, status="failed", reason=reason)
        launcher.end("failed", reason, getattr(error, "exit_code", 1))
        return
    store.set_attempt(gang.job, gang.attempt, status="stopped", reason=error.reason)
    if error.held and launcher.may_wait:
        store.release(gang.job)
        store.set_waiting(gang.job, error.reason)
        raise NotFreeError(error.what, error.reason) from error
    launcher.end("stopped", error.reason)
    raise JobStoppedError(f"job {gang.job}", error.reason) from error
