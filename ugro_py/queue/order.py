"""Who is first in line: priority, the time waited and the user's share of the cluster make one number.

    points = priority + 20 for each day waited + 10 * 2 ** -(U / S)

U is the user's part of all that was used lately (older use counts less), S the part that would be fair: one by the
number of users. So who used nothing lately has 10 points, who used a fair part 5, who used all of it nearly none. This
is the multifactor priority of Slurm with its classic fair-share formula
(https://slurm.schedmd.com/classic_fair_share.html). Unlike there the time waited counts without bound: a job is passed
only by those that were asked for in the days that make up for its lower priority, so none waits for ever.

Where users moved their jobs, they change places with jobs of their own of the same priority: the places themselves are
never moved, so that nobody can gain on others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ugro_py.queue.model import Snapshot, Waiting

POINTS_PER_DAY = 20.0
SHARE_POINTS = 10.0
_DAY_S = 86400.0


def ordered(snapshot: Snapshot) -> list[Waiting]:
    """Return the queue, first in line first. Of equal points the earlier is first, then the name decides."""
    share = shares(snapshot.usage, {job.user for job in snapshot.waiting})
    per_second, now = POINTS_PER_DAY / _DAY_S, snapshot.now
    keyed = [
        (-(job.priority + (now - job.submitted_at) * per_second + share[job.user]), job.submitted_at, job.job, number)
        for number, job in enumerate(snapshot.waiting)
    ]
    keyed.sort()
    return _moved([snapshot.waiting[item[3]] for item in keyed])


def shares(usage: Mapping[str, float], users: Iterable[str]) -> dict[str, float]:
    """Return each user's points for having used little: 10 for nothing at all.

    Args:
        usage: user -> GPU seconds used, older use counting less.
        users: those to answer for; they and those of `usage` share the cluster.
    """
    asked = set(users)
    everybody = asked | usage.keys()
    total = sum(usage.values())
    if total <= 0:
        return dict.fromkeys(asked, SHARE_POINTS)
    fair = 1 / len(everybody)
    return {user: SHARE_POINTS * 2.0 ** -(usage.get(user, 0.0) / total / fair) for user in sorted(asked)}


def rank(job: Waiting) -> tuple[float, float, str]:
    """Return what orders the jobs of one user and one priority."""
    return (job.submitted_at if job.position is None else job.position, job.submitted_at, job.job)


def _moved(line: list[Waiting]) -> list[Waiting]:
    """Return the line with the jobs that somebody moved in each other's places."""
    moved = {(job.user, job.priority) for job in line if job.position is not None}
    if not moved:
        return line
    places: dict[tuple[str, int], list[int]] = {}
    for place, job in enumerate(line):
        if (job.user, job.priority) in moved:
            places.setdefault((job.user, job.priority), []).append(place)
    result = list(line)
    for of_one in places.values():
        for place, job in zip(of_one, sorted((line[place] for place in of_one), key=rank), strict=True):
            result[place] = job
    return result
