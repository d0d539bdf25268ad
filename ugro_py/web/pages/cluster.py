"""The page Cluster: nodes and their GPUs as they are now, and the jobs that use them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from ugro_py.state.models import ENDED
from ugro_py.web.cluster_view import groups, now, places, summary
from ugro_py.web.live import Look, Parts, live, parts_of
from ugro_py.web.render import FORGERY_PLACE, html, ident, render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)


@router.get("/")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show the cluster."""
    return render(request, "cluster.html", title="Cluster", **parts_of(request, "cluster", who))


@live("cluster")
def parts(look: Look) -> Parts:
    """Make the figures, the jobs, and a card for each node."""
    found = now(look)
    users = {job["job"]: job["user"] for job in found["jobs"]}
    page = {"csrf": FORGERY_PLACE, "look": look}
    jobs = [job for job in found["jobs"] if job["status"] not in (*ENDED, "pending")]
    ended = [job for job in found["jobs"] if job["status"] in ENDED]
    made = {
        "cluster-figures": html("parts/cluster_figures.html", **summary(found["nodes"], found["jobs"])),
        "cluster-jobs": html("parts/cluster_jobs.html", jobs=jobs, ended=ended, places=places, **page),
    }
    if not found["nodes"]:
        made["cluster-empty"] = html("parts/cluster_empty.html")
    for node in found["nodes"]:
        name = f"node-{ident(node['node'])}"
        made[name] = html("parts/cluster_node.html", id=name, node=node, groups=groups(node["gpus"]), users=users)
    return made
