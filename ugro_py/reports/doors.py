"""Experiments for the verbs that report: through the agent where one is responsible, else from the caller's store."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ugro_py.api.client import Client, connect, job_path
from ugro_py.errors import NotFoundError, StateError, UsageError
from ugro_py.names import check_name
from ugro_py.paths import JobPaths


def listed(filters: Sequence[str], search: str, sort: str, limit: int | None, offset: int = 0) -> dict[str, Any]:
    """Return a part of the list of experiments, see `ugro_py.experiments.ls`, as JSON values.

    Raises:
        UsageError: a filter or the sort is none.
        StateError: the database cannot be used.
    """
    client = connect(reading=True)
    if client is not None:
        asked = {"filter": list(filters), "search": search, "sort": sort, "limit": limit or 10_000, "offset": offset}
        return dict(client.get("/v1/experiments", **asked))
    from ugro_py import experiments
    from ugro_py.state import Store

    with Store.open() as store:
        page = experiments.ls(
            store, filters=filters, search=search, sort=sort, limit=limit, offset=offset, wait_s=None
        )  # fmt: skip
        return page.to_json()


def compared(
    inventory: str | None, jobs: Sequence[str], *, loss: float | None, everything: bool, code: bool = True
) -> dict[str, Any]:
    """Return jobs side by side, see `ugro_py.experiments.comparison.compare`, as JSON values.

    Raises:
        NotFoundError: one of them does not exist.
        UsageError: there are too many.
        InventoryError: the inventory, which has the price of energy, is not valid.
    """
    client = connect(reading=True)
    if client is not None:
        return dict(client.get("/v1/compare", job=list(jobs), loss=loss, all=everything))
    from ugro_py import experiments
    from ugro_py.inventory import load_cluster
    from ugro_py.reconcile import reconcile
    from ugro_py.state import Store

    settings = load_cluster(inventory).settings
    with Store.open() as store:
        for job in jobs:
            store.job(job)
            reconcile(store, job)
        options: dict[str, Any] = {"loss": loss, "everything": everything, "code": code, "settings": settings}
        return experiments.compare(store, jobs, **options).to_json()


def tag(job: str, changes: Sequence[str]) -> tuple[bool, list[str]]:
    """Change the tags of a job (`+good`, `-bad`); return whether anything changed, and the tags it has now.

    Raises:
        RightsError: the job is somebody else's.
        NotFoundError: there is no such job.
        UsageError: a tag is not valid.
    """
    client = connect()
    if client is not None:
        answer = client.put(job_path(job, "tags"), {"change": list(changes)})
        return bool(answer["changed"]), list(answer["tags"])
    from ugro_py import experiments
    from ugro_py.audit import audited_here
    from ugro_py.state import Store

    with Store.open() as store:
        with audited_here(store, "tag", job, change=list(changes)):
            changed = store.set_tags(job, None, changes)
        if changed:
            experiments.refresh_notes(job, store)
        return changed, list(store.tags(job))


def tags(job: str) -> list[str]:
    """Return the tags of a job; NotFoundError if there is no such job."""
    client = connect(reading=True)
    if client is not None:
        return list(client.get(job_path(job, "tags"))["tags"])
    from ugro_py.state import Store

    with Store.open() as store:
        return list(store.tags(job))


def set_note(job: str, text: str) -> bool:
    """Replace the note of a job; return whether it was another.

    Raises:
        RightsError: the job is somebody else's.
        NotFoundError: there is no such job.
        UsageError: it is too long.
    """
    client = connect()
    if client is not None:
        return bool(client.put(job_path(job, "note"), {"text": text})["changed"])
    from ugro_py import experiments
    from ugro_py.audit import audited_here
    from ugro_py.state import Store

    with Store.open() as store:
        with audited_here(store, "note", job, characters=len(text)):
            changed = store.set_note(job, text)
        if changed:
            experiments.refresh_notes(job, store)
        return changed


def note(job: str) -> str:
    """Return the note of a job; NotFoundError if there is no such job."""
    client = connect(reading=True)
    if client is not None:
        return str(client.get(job_path(job, "note"))["text"])
    from ugro_py.state import Store

    with Store.open() as store:
        return store.note(job)


def details(job: str) -> dict[str, Any]:
    """Return all that is known of one experiment: its figures, tags, note, and what it was run with."""
    client = connect(reading=True)
    if client is not None:
        found: dict[str, Any] = client.get(job_path(job, "results"))["results"]
        said = client.get("/v1/compare", job=[job], all=True)
        tags, text = client.get(job_path(job, "tags"))["tags"], client.get(job_path(job, "note"))["text"]
    else:
        from ugro_py import experiments
        from ugro_py.experiments import figures
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store

        with Store.open() as store:
            store.job(job)
            reconcile(store, job)
            found = dict(figures.of_job(store, job))
            said = experiments.compare(store, [job], everything=True, code=False).to_json()
            tags, text = list(store.tags(job)), store.note(job)
    run_with: dict[str, dict[str, Any]] = {row["section"]: {} for row in said["differences"]}
    for row in said["differences"]:
        run_with[row["section"]][row["key"]] = row["values"][0]
    found = {key: value for key, value in found.items() if key != "spark"}
    return {"job": job, "tags": tags, "note": text, "results": found, "run_with": run_with}


@contextmanager
def metrics_here(jobs: Sequence[str]) -> Iterator[None]:
    """See to it that `results.load` finds the metrics of these jobs: those of an agent's jobs are copied first.

    Raises:
        NotFoundError: one of the jobs does not exist.
        StateError: the agent is gone, or there is no room.
    """
    import tempfile

    client = connect(reading=True)
    if client is None:
        from ugro_py.state import Store

        with Store.open() as store:
            for job in jobs:
                store.job(job)
        _derive(jobs)
        yield
        return
    for job in jobs:
        client.get(job_path(check_name(job)))
    with tempfile.TemporaryDirectory(prefix="ugro-") as folder:
        before = os.environ.get("UGRO_DATA")
        os.environ["UGRO_DATA"] = folder
        try:
            for job in jobs:
                _copy_metrics(client, job)
            yield
        finally:
            if before is None:
                del os.environ["UGRO_DATA"]
            else:
                os.environ["UGRO_DATA"] = before


def has_metrics(job: str) -> bool:
    """Say whether there is anything of the metrics of a job, in `metrics_here`."""
    try:
        return JobPaths(job).metrics.stat().st_size > 0
    except OSError:
        return False  # who reads them says why


def _derive(jobs: Sequence[str]) -> None:
    from ugro_py import metrics

    for job in jobs:
        here = JobPaths(job)
        if here.root.is_dir() and not here.metrics.exists():
            metrics.rebuild(here)  # its controller was killed before it could


def _copy_metrics(client: Client, job: str) -> None:
    target = JobPaths(job).metrics
    try:
        target.parent.mkdir(parents=True)
        with target.open("wb") as writer:
            for block in client.read(job_path(job, "files", quote(target.name))):
                writer.write(block)
    except NotFoundError:
        target.unlink()  # it has none yet
    except OSError as error:
        raise StateError(f"copy the metrics of {job}", error.strerror or str(error), "make room in TMPDIR") from error


def refuse_standard_output(target: Path) -> None:
    """See to it that who means standard output gets no file named `-`: UsageError."""
    if str(target) == "-":
        raise UsageError("write to `-`", "standard output is not written to here", "name a file")


def refuse_missing_folder(target: Path) -> None:
    """See to it that the folder of `target` is there: UsageError, OSError if nobody can tell."""
    try:
        target.parent.stat()
    except FileNotFoundError:
        advice = f"make it (`mkdir -p {shlex.quote(str(target.parent))}`), or name another"
        raise UsageError(f"write {target}", f"there is no folder {target.parent}", advice) from None


def refuse_what_is_there(target: Path, force: bool) -> None:
    """See to it that a file can take the place of `target`.

    Raises:
        UsageError: what is there may not be replaced.
        OSError: nobody can tell.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise UsageError(f"write {target}", "it is a folder", "name a file")
    if not stat.S_ISREG(mode):
        raise UsageError(f"write {target}", "it is a device, a pipe or a socket", "name a file")
    if not force:
        raise UsageError(f"write {target}", "it is there already", "name another, or give --force")


@contextmanager
def replacing(target: Path, force: bool = False) -> Iterator[Path]:
    """Give a file to write; it takes the place of `target` when all of it is there.

    Raises:
        UsageError: `target` is there already, is no name for a file, or its folder is missing.
        StateError: it cannot be written.
    """
    refuse_standard_output(target)
    try:
        refuse_missing_folder(target)
        refuse_what_is_there(target, force)
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise StateError(f"write {target}", error.strerror or str(error), "check the folder and the disk") from error
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        raise StateError(f"write {target}", error.strerror or str(error), "check the folder and the disk") from error
    finally:
        part.unlink(missing_ok=True)
