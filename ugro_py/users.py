"""Who somebody is, what they may do, and as whom their jobs run on the nodes.

Identity is the Unix account that the kernel vouches for: never a name that the caller gives, never `$USER`.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ugro_py.cluster import Cluster, Node
from ugro_py.errors import RightsError

if TYPE_CHECKING:
    from ugro_py.state import JobRow, Store

SET_BY_ADMIN = "run it as root or as the account of the agent, or ask one of its admins"


@dataclass(frozen=True)
class Person:
    """A Unix account; `uid` is None for a name that has none on this machine. The first group is the primary one."""

    user: str
    uid: int | None
    groups: tuple[str, ...] = ()

    @property
    def group(self) -> str | None:
        """The primary group, whose quota a job counts for."""
        return self.groups[0] if self.groups else None


def person_of(uid: int, gid: int | None = None) -> Person:
    """Return the account `uid`; one without a name is called by its number, as `ls -l` does."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Person(str(uid), uid, () if gid is None else (_group_name(gid),))
    return Person(entry.pw_name, uid, _groups(entry.pw_name, entry.pw_gid))


def person_named(user: str) -> Person:
    """Return the account called `user`, with no uid if this machine does not know it."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return Person(user, None)
    return Person(user, entry.pw_uid, _groups(user, entry.pw_gid))


def me() -> Person:
    """Return the account this process runs as, whatever its environment says."""
    return person_of(os.geteuid(), os.getegid())


def _groups(user: str, gid: int) -> tuple[str, ...]:
    return tuple(_group_name(number) for number in dict.fromkeys([gid, *os.getgrouplist(user, gid)]))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def is_admin(store: Store, person: Person, owner: int | None = None) -> bool:
    """Say whether `person` may change everything: root, the store's own account, or one with the role.

    Args:
        owner: the uid of the account whose store it is; default: that of this process.
    """
    if person.uid is not None and person.uid in (0, os.geteuid() if owner is None else owner):
        return True
    roles = store.roles(person.user, person.groups)
    return "admin" in roles


def check_owner(store: Store, person: Person, job: JobRow, verb: str) -> None:
    """Raise RightsError unless `person` may change `job`: it is theirs, or they are an admin."""
    if job.user != person.user and not is_admin(store, person):
        raise RightsError(f"{verb} job {job.name}", f"it is {job.user}'s, you are {person.user}", f"ask {job.user}")


def check_admin(store: Store, person: Person, verb: str) -> None:
    """Raise RightsError unless `person` is an admin."""
    if not is_admin(store, person):
        raise RightsError(verb, f"only an admin may, and {person.user} is none", SET_BY_ADMIN)


def ceiling(store: Store, cluster: Cluster, person: Person, admin: bool) -> int:
    """Return the highest priority that `person` may ask for: 100 for an admin, else what is set for them.

    That is what their own account says, else the highest that one of their groups has, else the inventory.
    """
    if admin:
        return 100
    set_for = {(row.kind, row.name): row.max_priority for row in store.accounts() if row.max_priority is not None}
    own = set_for.get(("user", person.user))
    if own is not None:
        return own
    return max((set_for["group", name] for name in person.groups if ("group", name) in set_for),
               default=cluster.settings.max_priority)  # fmt: skip


def check_priority(store: Store, cluster: Cluster, person: Person, admin: bool, priority: int) -> None:
    """Raise RightsError where a priority is above what `person` may ask for."""
    most = ceiling(store, cluster, person, admin)
    if priority > most:
        raise RightsError(
            f"priority {priority}", f"{person.user} may ask for {most} at most", f"ask for {most}, or ask an admin"
        )


def cluster_for(cluster: Cluster, user: str) -> Cluster:
    """Return the cluster as a job of `user` sees it: its nodes under the account that `ugro_accounts` maps to.

    Without an entry the inventory's account is used. A node that is this machine is then reached over SSH too: its
    local connection would run the job as the agent itself.
    """
    account = cluster.settings.accounts.get(user)
    if account is None:
        return cluster
    return replace(cluster, nodes=tuple(_under(node, account) for node in cluster.nodes))


def _under(node: Node, account: str) -> Node:
    return replace(node, user=account, connection="ssh")


def check_isolation(cluster: Cluster, person: Person, admin: bool, excluded: Mapping[str, object]) -> None:
    """Refuse a job that could run as the agent's own account, which may read and change the state of all.

    That is so on nodes that are this machine, over a local connection or by one of its addresses, for who has no
    account of their own in `ugro_accounts`. Admins may do everything anyway.

    Raises:
        RightsError: such a node is not in `excluded`.
    """
    if admin or person.user in cluster.settings.accounts:
        return
    open_nodes = [node.name for node in cluster.nodes if node.name not in excluded and _is_here(node)]
    if open_nodes:
        raise RightsError(
            f"submit a job as {person.user}",
            f"on {', '.join(open_nodes)} it would run as the agent's own account",
            f"give --exclude {','.join(open_nodes)}, or have {person.user} added to ugro_accounts in the inventory",
        )


def _is_here(node: Node) -> bool:
    """Say whether a node is this machine: only an address of its own can be bound."""
    if node.connection == "local":
        return True
    try:
        family, kind, _, _, address = socket.getaddrinfo(node.address, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
