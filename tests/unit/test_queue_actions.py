"""What people change in the queue: hold, release, move, cancel, priorities, and the quota of jobs."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.queue_store import known, now_decided, order, submit  # noqa: F401 - a fixture
from ugro_py.errors import NotFoundError, RightsError, UsageError
from ugro_py.queue import actions
from ugro_py.state import Controller, Store


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([("d", "first", None)], "d a b c"),
        ([("a", "last", None)], "b c d a"),
        ([("d", "before", "b")], "a d b c"),
        ([("a", "before", "d")], "b c a d"),
        ([("d", "first", None), ("c", "first", None), ("d", "last", None)], "c a b d"),
        ([("d", "before", "c"), ("c", "before", "d")] * 40, "a b c d"),
    ],
)
def test_moves(known: Store, moves: list[tuple[str, str, str | None]], expected: str) -> None:
    for name in ("a", "b", "c", "d"):
        submit(known, name)
        submit(known, f"of-eva-{name}", user="eva")
    before = order(known)
    for job, to, other in moves:
        assert actions.move(known, job, to, "ob", other=other)
    after = order(known)
    assert [name for name in after if "eva" not in name] == expected.split()
    # Nobody else's turn has changed.
    assert ["eva" in name for name in before] == ["eva" in name for name in after]
    submit(known, "e")
    assert [name for name in order(known) if "eva" not in name] == [*expected.split(), "e"]


def test_a_move_to_where_it_is_changes_nothing(known: Store) -> None:
    submit(known, "a")
    submit(known, "b")
    assert not actions.move(known, "a", "before", "ob", other="b")
    assert not actions.move(known, "b", "last", "ob")
    assert known.job("a").position is None


def test_the_priority(known: Store) -> None:
    submit(known, "a")
    submit(known, "b")
    actions.move(known, "b", "first", "ob")
    assert actions.set_priority(known, "b", 90, "ob") and not actions.set_priority(known, "b", 90, "ob")
    assert order(known) == ["b", "a"]
    assert actions.set_priority(known, "b", 10, "ob")
    assert order(known) == ["a", "b"]
    with pytest.raises(UsageError, match="between 0 and 100"):
        actions.set_priority(known, "b", 101, "ob")


def test_cancel(known: Store) -> None:
    submit(known, "a")
    submit(known, "b")
    assert actions.cancel(known, "a", "eva")
    job = known.job("a")
    assert (job.status, job.reason, job.ended_at is not None) == ("stopped", "cancelled by eva", True)
    known.claim("b", Controller.me())  # a process waits with it, and ends it
    assert actions.cancel(known, "b", "ob")
    assert known.job("b").status == "pending" and known.job("b").stop_requested
    assert now_decided(known).order == ()


@pytest.mark.parametrize(
    "act",
    [
        lambda store, job: actions.hold(store, job, "ob"),
        lambda store, job: actions.release(store, job, "ob"),
        lambda store, job: actions.move(store, job, "first", "ob"),
        lambda store, job: actions.set_priority(store, job, 5, "ob"),
        lambda store, job: actions.cancel(store, job, "ob"),
    ],
)
def test_only_jobs_that_wait_can_be_changed(known: Store, act: Callable[[Store, str], bool]) -> None:
    submit(known, "a")
    known.set_job("a", "running")
    with pytest.raises(UsageError, match=r"does not wait, it is running"):
        act(known, "a")
    with pytest.raises(NotFoundError):
        act(known, "b")


@pytest.mark.parametrize(
    ("job", "to", "other", "match"),
    [
        ("a", "before", "of-eva", "a job of eva"),
        ("a", "before", "urgent", "its priority is 90"),
        ("a", "before", "a", "before itself"),
        ("a", "before", None, "no place"),
        ("a", "up", None, "no place"),
    ],
)
def test_moves_that_make_no_sense(known: Store, job: str, to: str, other: str | None, match: str) -> None:
    submit(known, "a")
    submit(known, "urgent", priority=90)
    submit(known, "of-eva", user="eva")
    with pytest.raises(UsageError, match=match):
        actions.move(known, job, to, "ob", other=other)


def test_submissions_are_counted(known: Store) -> None:
    known.set_account("user", "ob", max_queued=2)
    known.set_account("group", "lab", max_queued=3)
    for name, user in (("a", "ob"), ("b", "eva")):
        actions.check_submission(known, user, "lab")
        submit(known, name, user=user, group="lab")
    submit(known, "c", group="lab")
    with pytest.raises(RightsError, match="ob has 2 of 2 jobs"):
        actions.check_submission(known, "ob", "lab")
    with pytest.raises(RightsError, match="group lab has 3 of 3 jobs"):
        actions.check_submission(known, "eva", "lab")
    actions.check_submission(known, "eva", None)
    known.set_job("c", "completed")
    actions.check_submission(known, "ob", "lab", after=("c",))
    with pytest.raises(NotFoundError):
        actions.check_submission(known, "ob", "lab", after=("nope",))


def test_an_admin_takes_over_a_hold_and_the_owner_cannot_end_it(known: Store) -> None:
    submit(known, "a")
    assert actions.hold(known, "a", "ob") and not actions.hold(known, "a", "ob")
    assert actions.hold(known, "a", "root", admin=True), "it is news: from now on root holds it"
    assert known.job("a").held_by == "root"
    assert not actions.hold(known, "a", "ob") and not actions.hold(known, "a", "other", admin=True)
    assert known.job("a").held_by == "root"
    # An end and a resume do not end it either; a hold of the owner's own they do.
    known.set_job("a", "stopped")
    assert known.reopen("a") and known.job("a").held
    submit(known, "b")
    actions.hold(known, "b", "ob")
    known.set_job("b", "stopped")
    assert known.reopen("b") and not known.job("b").held


def test_a_resumed_job_has_a_priority_that_may_be_asked_for(known: Store) -> None:
    submit(known, "a", priority=90)
    known.set_job("a", "failed")
    assert known.reopen("a", max_priority=50) and known.job("a").priority == 50
