# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Whether a failed job is tried again, and when."""

from __future__ import annotations

import pytest

from ugro_py.gang import Failure, Outcome
from ugro_py.recovery.policy import LONGEST_WAIT_S, Failed, Verdict, decide, failed


def rank(attempt: int, step: int | None = None, signature: str = "1: boom", seconds: float = 10.0) -> Failed:
    return Failed(attempt, "rank", signature, step, seconds)


def outcome(code: int, *lines: str, kind: str = "rank") -> Outcome:
    return Outcome("failed", "x", code, Failure(0.0, "x", 1, "gpu1", code, list(lines), kind), last_lines=list(lines))


def test_as_often_as_asked() -> None:
    assert not decide([rank(1)], 0, 10).again
    assert decide([rank(1)], 1, 10) == Verdict(True, 0.0)
    assert not decide([rank(1, 3), rank(2, 7)], 1, 10).again
    assert "1 time" in decide([rank(1, 3), rank(2, 7)], 1, 10).why


@pytest.mark.parametrize(("count", "wait"), [(1, 0.0), (2, 10.0), (3, 20.0), (4, 40.0), (9, LONGEST_WAIT_S)])
def test_the_first_retry_comes_at_once_and_the_wait_doubles(count: int, wait: float) -> None:
    assert decide([rank(number, step=number) for number in range(1, count + 1)], 99, 10).wait_s == wait


def test_the_same_failure_at_the_same_step_is_not_tried_a_third_time() -> None:
    verdict = decide([rank(1, 41), rank(2, 41)], 5, 0)
    assert not verdict.again
    assert "step 41" in verdict.why
    assert decide([rank(1, 41), rank(2, 42)], 5, 0).again
    assert decide([rank(1, 41), rank(2, 41, "1: other")], 5, 0).again
    assert not decide([rank(1), rank(2)], 5, 0).again
    assert decide([rank(1, seconds=4000), rank(2, seconds=4000)], 5, 0).again


def by_signal(attempt: int, number: int, code: int = -9) -> Failed:
    failure = Failure(0.0, "x", number, "gpu1", code, ["begins at step 31"])
    return failed(attempt, Outcome("failed", "x", code, failure, last_lines=["begins at step 31"]), 34, 3.0)


def test_a_signal_to_another_rank_is_another_failure() -> None:
    assert decide([by_signal(1, 2, -11), by_signal(2, 0, -11)], 5, 0).again
    assert not decide([by_signal(1, 2, -11), by_signal(2, 2, -11)], 5, 0).again


@pytest.mark.parametrize("code", [-9, -15])
def test_who_is_killed_from_outside_is_tried_once_more_than_who_fails(code: int) -> None:
    twice = [by_signal(1, 2, code), by_signal(2, 2, code)]
    assert decide(twice, 5, 0).again
    verdict = decide([*twice, by_signal(3, 2, code)], 5, 0)
    assert not verdict.again
    assert verdict.why == "it failed three times in the same way after step 34"
    assert decide([*twice, by_signal(3, 1, code)], 5, 0).again
    assert decide([twice[0], rank(2, 34), twice[1]], 5, 0).again


def test_a_job_that_stands_still_twice_at_the_same_step_is_not_tried_a_third_time() -> None:
    stalled = [Failed(number, "stalled", "None: ", 41, 300.0) for number in (1, 2)]
    assert not decide(stalled, 5, 0).again


def test_lost_nodes_are_no_failure_of_the_job() -> None:
    lost = [Failed(number, "node", "None: ", 41, 9.0) for number in (1, 2)]
    assert decide(lost, 2, 0).again


def test_refused_input_is_not_tried_again() -> None:
    found = failed(1, outcome(2, "error: no such model"), None, 3.0)
    assert found.kind == "refused"
    assert not decide([found], 9, 0).again


def test_a_port_that_was_taken_costs_no_retry_once() -> None:
    port = failed(1, outcome(1, "RuntimeError: EADDRINUSE"), None, 3.0)
    assert decide([port], 0, 10) == Verdict(True, 0.0)
    assert not decide([port, port], 0, 10).again
    assert decide([port, rank(2)], 1, 10).again


def test_numbers_do_not_make_two_failures_different() -> None:
    one = failed(1, outcome(1, "at 0x7f3a: worker 17 died"), 5, 1.0)
    two = failed(2, outcome(1, "at 0x91bc: worker 23 died"), 5, 1.0)
    assert one.signature == two.signature
    assert Failed.from_dict(one.as_dict()) == one
