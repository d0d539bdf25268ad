"""What `ugro worth` does: a job's figures from the agent or the store, the network's from the nodes, a prediction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ugro_py.cluster import Cluster, Node
from ugro_py.errors import NodeError, UsageError
from ugro_py.stragglers.times import Times, from_json
from ugro_py.stragglers.words import worth_lines
from ugro_py.worth import links as worth_links
from ugro_py.worth import prediction
from ugro_py.worth.prediction import Link, Worth

Say = Callable[[str], None]


def of_job(job: str, cluster: Callable[[], Cluster], again: bool, say: Say) -> Worth:
    """Return what each node of a job is prediction.

    Args:
        job: its name.
        cluster: gives the inventory, asked only where something must be measured.
        again: measure although there are figures, or although the job runs.
        say: is told what is going on.

    Raises:
        NotFoundError: there is no such job, or a node of it is in the inventory no more.
        NodeError: the network between its nodes cannot be measured.
        UsageError: what the prediction needs is not known of this job.
    """
    report, active = _figures(job)
    times, size = from_json(report), report["gradient_bytes"]
    names = list(dict.fromkeys(rank.node for rank in times.ranks))
    _check(job, times, size, names)
    links = worth_links.kept(names)
    if again or _missing(names, links):
        if active and not again:
            raise UsageError(
                f"worth of the nodes of {job}", "the network between them was never measured, and the job uses it now",
                f"wait until it has ended, or slow it for {_length(len(names))} s with `ugro worth {job} --measure`",
            )  # fmt: skip
        known = cluster()
        measured([known.node(name) for name in names], say)
        links = worth_links.kept(names)
    found = prediction.predict(times, size, links)
    if found is None:
        pairs = ", ".join(f"{one} to {other}" for one, other in _missing(names, links))
        raise NodeError(f"worth of the nodes of {job}", f"not measured: {pairs}", "see `ugro check`")
    return found


def _figures(job: str) -> tuple[dict[str, Any], bool]:
    """Return the report of a job as JSON values, and whether it has not ended."""
    from ugro_py.api.client import connect, job_path

    client = connect(reading=True)
    if client is not None:
        state = client.get(job_path(job))["status"]
        return client.get(job_path(job, "stragglers"))["report"], state in ("pending", "starting", "running")
    from ugro_py.reconcile import reconcile
    from ugro_py.state import Store
    from ugro_py.stragglers import report

    with Store.open() as store:
        store.job(job)
        reconcile(store, job)
        return report(job, store).to_json(), store.job(job).active


def _check(job: str, times: Times, size: int | None, names: Sequence[str]) -> None:
    if not times.ranks:
        lacks = "it has no metrics yet"
    elif len(names) < 2:
        lacks = f"all ranks that report their steps are on {names[0]}"
    elif times.transfer_s is None:
        lacks = "its script does not tell how long its ranks wait for each other"
    elif not size:
        lacks = "its script does not tell how large its gradients are"
    else:
        return
    raise UsageError(f"worth of the nodes of {job}", lacks, "see docs/stragglers.md for what a script can tell")


def _missing(names: Collection[str], links: Sequence[Link]) -> list[tuple[str, str]]:
    there = {(link.source, link.target) for link in links}
    return [(one, other) for one in names for other in names if one != other and (one, other) not in there]


def _length(count: int) -> int:
    """Return about how many seconds measuring takes."""
    return round(2 * worth_links.SECONDS * (count - 1 + count % 2)) + 2


def measured(nodes: Sequence[Node], say: Say) -> tuple[list[Link], list[str]]:
    """Measure between nodes, keep it, and return it with what could not be measured.

    Raises:
        NodeError: fewer than two nodes answer.
        StateError: it cannot be kept.
    """
    say(f"measuring the network between {len(nodes)} nodes, about {_length(len(nodes))} s")
    links, troubles = worth_links.measure(nodes, worth_links.SECONDS)
    worth_links.keep(links)
    for trouble in troubles:
        say(f"not measured: {trouble}")
    return links, troubles


def lines(found: Worth) -> list[str]:
    """Return a prediction for a terminal."""
    return [*worth_lines(found), "It assumes:", *(f"  {text}" for text in found.assumptions)]


def links_json(links: Sequence[Link], troubles: Sequence[str]) -> dict[str, Any]:
    """Return measurements as JSON values."""
    return {"links": [link.to_json() for link in links], "not_measured": list(troubles)}


def links_lines(links: Sequence[Link], troubles: Sequence[str]) -> list[str]:
    """Return measurements for a terminal, the slowest link last."""
    ordered = sorted(links, key=lambda link: -link.mb_s)
    wide = max((len(f"{link.source} to {link.target}") for link in ordered), default=0)
    return [
        f"{f'{link.source} to {link.target}':<{wide}}  {link.mb_s:>10,.1f} MB/s  {link.latency_ms:>8.3f} ms"
        for link in ordered
    ]
