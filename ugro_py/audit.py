"""The audit trail's lines: who asked for what, over which door, and what came of it. Nothing else writes them.

A submission over the API is the exception: its line is written with the job itself (`ugro_py.state._submit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ugro_py.errors import RightsError, UgroError

if TYPE_CHECKING:
    from ugro_py.state import Store
    from ugro_py.users import Person

STORE = "store"
"""The door of who needs no agent: whoever can write to the store is its owner, and is named all the same."""


@contextmanager
def audited(
    store: Store, person: Person, door: str, verb: str, target: str, data: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Note in the audit trail what the block did: `done`, `refused: …` or `failed: …`.

    Args:
        store: the state store.
        person: who asked.
        door: how: `socket`, `tcp` or `STORE`.
        verb: what for: `stop`, `submit`, …
        target: the job, node or account.
        data: more of it, as JSON values.
    """
    outcome = "failed: an error inside UGRO, see its log"
    try:
        yield
        outcome = "done"
    except RightsError as error:
        outcome = f"refused: {error}"
        raise
    except UgroError as error:
        outcome = f"failed: {error}"
        raise
    finally:
        store.record(person.user, person.uid, verb, target, outcome, {"door": door, **(data or {})})


@contextmanager
def audited_here(store: Store, verb: str, target: str, **data: Any) -> Iterator[None]:
    """As `audited`, for the account that this process runs as, in its own store."""
    from ugro_py import users

    with audited(store, users.me(), STORE, verb, target, data):
        yield
