# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Hysteresis of a node's state: what one lost packet, a cut and a problem that comes and goes make of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugro_py.health import catalog, states
from ugro_py.health.states import NodeState, Rules, answered, failed, heard

WELL = answered(NodeState(), 0.0, ())


def after(state: NodeState, *steps: tuple[str, float] | tuple[str, float, set[str]]) -> NodeState:
    """Take steps ("fail", at), ("hear", at) or ("answer", at, problems)."""
    for kind, at, *problems in steps:
        if kind == "fail":
            state = failed(state, at)
        elif kind == "hear":
            state = heard(state, at)
        else:
            state = answered(state, at, problems[0] if problems else ())  # type: ignore[arg-type]
    return state


def test_a_node_that_answers_is_healthy_at_once() -> None:
    assert NodeState().observed == "unknown"
    assert WELL.observed == "healthy" and WELL.settled and not WELL.suspect


def test_one_lost_packet_changes_nothing() -> None:
    state = after(WELL, ("fail", 30.0))
    assert (state.observed, state.suspect, state.settled) == ("healthy", True, False)
    assert after(state, ("hear", 31.0)).suspect is False


@pytest.mark.parametrize(
    ("times", "observed"),
    [((2.0, 3.0), "healthy"), ((2.0, 4.0), "healthy"), ((2.0, 4.1), "unreachable"), ((4.1,), "healthy")],
)
def test_unreachable_needs_failures_and_silence(times: tuple[float, ...], observed: str) -> None:
    assert after(WELL, *(("fail", at) for at in times)).observed == observed


def test_a_heartbeat_in_between_starts_the_silence_anew() -> None:
    state = after(WELL, ("fail", 3.0), ("hear", 3.5), ("fail", 5.0), ("fail", 7.0))
    assert state.observed == "healthy"
    assert after(state, ("fail", 7.6)).observed == "unreachable"


def test_it_is_back_after_two_answers_and_its_problems_start_anew() -> None:
    gone = after(WELL, ("answer", 1.0, {"disk"}), ("answer", 2.0, {"disk"}), ("fail", 5.0), ("fail", 7.0))
    assert (gone.observed, gone.problems) == ("unreachable", frozenset())
    once = after(gone, ("answer", 20.0, {"disk"}))
    assert (once.observed, once.settled) == ("unreachable", False)
    assert after(gone, ("hear", 20.0)).observed == "unreachable", "a heartbeat alone does not bring it back"
    assert after(once, ("answer", 21.0, {"disk"})).observed == "healthy", "seen once since it is back"
    assert after(once, ("answer", 21.0, {"disk"}), ("answer", 22.0, {"disk"})).observed == "degraded"


def test_a_problem_counts_when_it_was_seen_twice_and_is_over_when_it_was_not_twice() -> None:
    once = after(WELL, ("answer", 10.0, {"hot"}))
    assert (once.observed, once.settled) == ("healthy", False)
    assert after(once, ("answer", 11.0)).settled
    twice = after(once, ("answer", 11.0, {"hot"}))
    assert (twice.observed, twice.problems, twice.settled) == ("degraded", {"hot"}, True)
    gap = after(twice, ("answer", 21.0))
    assert (gap.observed, gap.settled) == ("degraded", False)
    assert after(gap, ("answer", 22.0, {"hot"})).observed == "degraded"
    assert after(gap, ("answer", 22.0)).observed == "healthy"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "hear", "answer"]),
        st.floats(0.1, 15.0),
        st.sets(st.sampled_from(["hot", "disk"])),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens(steps: list[tuple[str, float, set[str]]]) -> None:
    rules, state, now, quiet_since, failures, answers = Rules(), NodeState(), 0.0, None, 0, 0
    for kind, gap, problems in steps:
        now += gap
        before = state
        if kind == "fail":
            quiet_since = now if quiet_since is None else quiet_since
            failures, answers = failures + 1, 0
            state = failed(state, now, rules)
            if before.observed != "unreachable" and state.observed == "unreachable":
                assert failures >= rules.failures and now - quiet_since > rules.silence_s
        else:
            quiet_since, failures = now, 0
            answers += kind == "answer"
            state = heard(state, now) if kind == "hear" else answered(state, now, problems, rules)
            assert not state.suspect
            if before.observed == "unreachable" and state.observed != "unreachable":
                assert kind == "answer" and answers >= rules.answers
        assert (state.observed == "degraded") == bool(state.problems)
        assert state.problems <= {"hot", "disk"}
        if state.problems - before.problems:
            assert kind == "answer" and state.problems - before.problems <= problems


@given(st.sampled_from(["unknown", "healthy", "degraded", "unreachable"]), st.booleans(), st.booleans())
def test_what_people_see(observed: str, drained: bool, busy: bool) -> None:
    word = states.shown(observed, drained, busy)
    if observed == "unreachable" or not drained:
        assert word == observed
    else:
        assert word == ("draining" if busy else "drained")


@pytest.mark.parametrize(
    ("check", "severity", "value", "drained"),
    [
        ("gpu_lost", "critical", 1, True),
        ("gpu_xid", "critical", "79@0000:01:00", True),
        ("gpu_xid", "warning", "43@0000:01:00", False),
        ("gpu_available", "critical", 0, True),
        ("gpu_driver", "critical", "driver_library_mismatch", True),
        ("gpu_driver", "critical", "timeout", False),
        ("gpu_throttling", "warning", None, False),
        ("gpu_temperature", "critical", 97, False),
        ("disk_space_gb", "critical", 0.1, False),
        ("something_new", "critical", None, False),
    ],
)
def test_only_what_no_waiting_puts_right_drains_a_node(check: str, severity: str, value: Any, drained: bool) -> None:
    assert catalog.drains(check, severity, value) is drained
