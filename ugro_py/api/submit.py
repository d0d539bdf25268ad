"""Take in a job from anybody on the machine: nothing they say is believed, no path of theirs is opened.

The agent may read files that the caller may not. So whatever a job needs comes as an upload; a name that would be a
path on this machine is refused. Who submits is the peer of the connection.
"""

from __future__ import annotations

import functools
import logging
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ugro_py import checkpoints, secret_env, users
from ugro_py.api.auth import Caller
from ugro_py.api.together import Together
from ugro_py.api.uploads import Uploaded, Uploads
from ugro_py.api.view import AgentView
from ugro_py.cluster import Cluster
from ugro_py.errors import NotFoundError, StateError, UgroError, UsageError
from ugro_py.names import NameTakenError, check_name, new_job_name
from ugro_py.paths import JobPaths
from ugro_py.plan import is_path
from ugro_py.queue import spool
from ugro_py.queue.spool_train import Training
from ugro_py.request import job as request
from ugro_py.request.job import JobRequest
from ugro_py.saved import cluster_text, save_cluster
from ugro_py.state import JobRow
from ugro_py.state._submit import NewJob

_FLUSHED_S = 0.2
"""So long after it was accepted a job is safe from a failure of power too; from that of any process it is at once."""
_MOST_TEXTS = 100
_log = logging.getLogger("ugro.api")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


class Submissions:
    """The one place where jobs are made of requests, and of the `uploads` that wait for them."""

    def __init__(self, agent: AgentView) -> None:
        self._agent = agent
        self._lock = threading.Lock()
        self._names_lock = threading.Lock()
        self._names: set[str] = set()
        self._texts: dict[str, tuple[Cluster, str]] = {}
        self._training = Training()
        self._to_flush = threading.Event()
        self._into_queue = Together(self._record)
        self.uploads = Uploads()

    def counting(self) -> threading.Lock:
        """What is held while a quota of jobs is counted and used: both are one step."""
        return self._lock

    def submit(self, who: Caller, values: Mapping[str, Any], upload: str | None, given: Mapping[str, str]) -> JobRow:
        """Record a job of `who` in the queue.

        Raises:
            UsageError: the request is not valid, or names a path of this machine.
            RightsError: a quota is used up, or the job would run as the agent itself.
        """
        asked = parsed(values)
        files = None if upload is None else self.uploads.take(who.person.user, upload)
        try:
            return self._submit(who, asked, files, given)
        finally:
            if files is not None and files.folder.exists():  # refused: else it is the job's spool by now
                shutil.rmtree(files.folder)

    def check(self, who: Caller, values: Mapping[str, Any], upload: str | None, given: Mapping[str, str]) -> JobRequest:
        """Return the request as `submit` would record it; nothing is recorded, and the upload is gone.

        Raises:
            UsageError, RightsError: as `submit`, but for quotas (see `ugro_py.queue.forecast`).
        """
        asked = parsed(values)
        files = None if upload is None else self.uploads.take(who.person.user, upload)
        try:
            checked = self._allowed(who, asked, files, given)
            with self._named(checked.name):
                _check_free(self._agent, checked.name)  # also where nothing is left of its files
            return checked
        finally:
            if files is not None:
                shutil.rmtree(files.folder)

    def _submit(self, who: Caller, asked: JobRequest, files: Uploaded | None, given: Mapping[str, str]) -> JobRow:
        checked = self._allowed(who, asked, files, given)
        # For a job without an upload the files are the agent's own: UGRO's training.
        folder = files.folder if files is not None else self._training.spool()
        return self.enter(who, checked, folder, given)

    def _allowed(self, who: Caller, asked: JobRequest, files: Uploaded | None, given: Mapping[str, str]) -> JobRequest:
        """Return the checked request, if `who` may ask for such a job."""
        checked = _checked(asked, files)
        if set(given) != set(checked.secret_env):
            raise UsageError("secrets", "are not those that `secret_env` names", "give a value for each name")
        secret_env.from_environment(checked.secret_env, given)  # what `ugro launch` refuses is refused here too
        person, excluded = who.person, {str(name): True for name in checked.exclude}
        users.check_isolation(self._agent.cluster, person, who.admin, excluded)
        users.check_priority(self._agent.store, self._agent.cluster, person, who.admin, checked.priority)
        return checked

    def enter(self, who: Caller, checked: JobRequest, folder: Path, given: Mapping[str, str]) -> JobRow:
        """Make a new job of `who` of a checked request whose files lie in a folder of the inbox; that is gone then.

        It outlives any process when this returns, and the failure of power a moment later (`_FLUSHED_S`).

        Raises:
            NameTakenError: another job has this name.
            RightsError: a quota is used up.
        """
        person, name = who.person, checked.name
        try:
            with self._named(name):
                spool.commit(folder, name)
                save_cluster(name, self._agent.cluster, self._cluster_text(person.user))
                secret_env.keep(name, given)
                try:
                    made = self._into_queue(
                        NewJob(name, person.user, person.group, checked.as_dict(), person.uid, who.door)
                    )
                    if isinstance(made, UgroError):
                        raise made
                    return made
                except BaseException:
                    secret_env.forget(name)
                    self._take_back(name)
                    raise
        finally:
            if folder.exists():
                shutil.rmtree(folder)

    def _record(self, asked: Sequence[NewJob]) -> Sequence[JobRow | UgroError]:
        with self._lock:
            made = self._agent.store.submit_jobs(asked)
        if not self._to_flush.is_set():
            self._to_flush.set()
            timer = threading.Timer(_FLUSHED_S, self._flush)
            timer.daemon = True
            timer.start()
        return made

    def _flush(self) -> None:
        self._to_flush.clear()  # first: what is recorded from here on has a flush of its own
        try:
            self._agent.store.flush()
        except StateError as error:
            _log.error("%s", error)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Have nobody else make a job of this name meanwhile.

        Raises:
            NameTakenError: another job has this name.
        """
        with self._names_lock:
            if name in self._names:
                raise NameTakenError(f"job name {name!r}", "is just being taken", "choose another with --name")
            self._names.add(name)
        try:
            if JobPaths(name).root.exists():
                _check_free(self._agent, name)
            yield
        finally:
            with self._names_lock:
                self._names.discard(name)

    def _take_back(self, name: str) -> None:
        """Remove the files of a job that was refused after all, unless another process has made one of that name."""
        if self._agent.store.is_free(name):
            shutil.rmtree(JobPaths(name).spool)
            JobPaths(name).cluster.unlink()
            with suppress(OSError):  # somebody keeps more there
                JobPaths(name).root.rmdir()

    def _cluster_text(self, user: str) -> str:
        """Return what is kept of the cluster for a job of a user; made anew when the inventory has changed."""
        cluster = self._agent.cluster
        known = self._texts.get(user)
        if known is None or known[0] is not cluster:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            known = self._texts[user] = (cluster, cluster_text(users.cluster_for(cluster, user)))
        return known[1]


@functools.cache
def _request_type() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(JobRequest)


def parsed(values: Mapping[str, Any]) -> JobRequest:
    """Return the request that JSON values make, every one of the type it must have."""
    from pydantic import ValidationError

    unknown = sorted(values.keys() - JobRequest.__dataclass_fields__.keys())
    if unknown:
        raise UsageError(f"request: {unknown[0]!r:.60}", "is no key of a job", "see /v1/openapi.json")
    # Many may submit within one second: of 24 with two random bytes, two had the same name in 1 of 240 such seconds.
    named = {"name": f"{new_job_name()}_{secrets.token_hex(4)}", **values}
    try:
        found: JobRequest = _request_type().validate_python(named)
        return found
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"request: {where}", str(first["msg"]), "correct it") from error


def _checked(asked: JobRequest, files: Uploaded | None) -> JobRequest:
    """Return the request with the places where its files will be, checked like that of `ugro launch`."""
    check_name(asked.name)
    place = JobPaths(asked.name).spool
    parts = files.parts if files is not None else frozenset()
    resume = _resume(asked.resume)
    plain = replace(asked, script=None, workdir=None, resume=None, model="tiny-llama", dataset="python-docs")
    if asked.script is not None:
        if spool.CODE not in parts or files is None:
            raise UsageError("request: script", "comes without its files", "upload them first (POST /v1/uploads)")
        _check_script(asked.script, files.folder / spool.CODE)
        checked = request.check(plain, ask_hub=False)
        return replace(checked, script=asked.script, workdir=str(place / spool.CODE), resume=resume,
                       model=asked.model, dataset=asked.dataset)  # fmt: skip
    chosen = {}
    for kind, part, name in (("model", spool.MODEL, asked.model), ("dataset", spool.DATA, asked.dataset)):
        if part in parts and files is not None:
            chosen[kind] = str(_uploaded(files.folder / part, place / part))
        else:
            _refuse_path(kind, name)
    model = plain.model if "model" in chosen else asked.model
    data = plain.dataset if "dataset" in chosen else asked.dataset
    known = request.check(replace(plain, model=model, dataset=data))
    for kind in ("model", "dataset"):
        if kind not in chosen and is_path(getattr(known, kind)):
            raise UsageError(f"request: {kind}", "is a path on the agent's machine", "upload it with the job")
    return replace(
        known, model=chosen.get("model", known.model), dataset=chosen.get("dataset", known.dataset), resume=resume
    )


def _uploaded(now: Path, later: Path) -> Path:
    """Return where an uploaded part will be: the folder, or the one file in it."""
    entries = list(now.iterdir()) if now.is_dir() else []
    return later / entries[0].name if len(entries) == 1 and entries[0].is_file() else later


def _refuse_path(kind: str, name: str) -> None:
    """Refuse what is no name of a preset or of the hub before anything looks whether it exists."""
    if not _HUB_ID.fullmatch(name) or ".." in name:
        raise UsageError(f"request: {kind}", "is no name of the hub and no preset", "upload it with the job")


def _check_script(script: str, code: Path) -> None:
    words = script.split("/")
    if script.startswith("/") or any(word in ("", ".", "..") for word in words) or "\0" in script:
        raise UsageError("request: script", "is no path inside the upload", "give it relative to the folder")
    path = code / script
    if not path.is_file() or not path.resolve().is_relative_to(code.resolve()):
        raise UsageError("request: script", "is not in the upload", "upload the folder that holds it")


def _resume(wanted: str | None) -> str | None:
    """Return the checkpoint that the name of a job means. Paths are refused, and links that lead out of the job."""
    if wanted is None:
        return None
    paths = JobPaths(check_name(wanted))
    newest = checkpoints.newest(paths) if paths.root.is_dir() else None
    if newest is None:
        raise UsageError(f"resume {wanted}", "there is no such job with a complete checkpoint", "see `ugro ps --all`")
    if not newest.resolve().is_relative_to(paths.checkpoints.resolve()):
        raise UsageError(f"resume {wanted}", "its checkpoint is a link out of its folder", "choose another job")
    return str(newest)


def _check_free(agent: AgentView, name: str) -> None:
    try:
        other = agent.store.job(name)
    except NotFoundError:
        if JobPaths(name).spool.exists():
            raise NameTakenError(
                f"job name {name!r}", "its folder holds files already", "choose another with --name"
            ) from None
        return
    raise NameTakenError(f"job name {name!r}", f"taken by a job of {other.user}", "choose another with --name")
