"""What a node's probes make of it: healthy, degraded or unreachable, with hysteresis. Pure: facts in, state out.

One lost packet changes nothing. Between healthy and unreachable a node is suspect, which nobody is told: its probes
fail, but not often or not long enough. Draining and drained are decisions, not observations; `shown` joins the two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Observed = Literal["unknown", "healthy", "degraded", "unreachable"]
Shown = Literal["unknown", "healthy", "degraded", "unreachable", "draining", "drained"]


@dataclass(frozen=True)
class Rules:
    """When a state changes.

    Attributes:
        failures: so many probes in a row must have failed before a node is unreachable,
        silence_s: and it must have been silent for longer than this.
        answers: so many probes in a row must have been answered before it is reachable again.
        sightings: a problem counts when so many probes in a row have seen it, and is over when as many have not.
    """

    failures: int = 2
    silence_s: float = 4.0
    answers: int = 2
    sightings: int = 2


DEFAULT_RULES = Rules()

HEALED_CHECKS, HEALED_S = 3, 120.0
"""So many recorded checks in a row, over so many seconds, end a drain of the health sweep."""


@dataclass(frozen=True)
class NodeState:
    """What is known of a node. Times are of one clock that only grows.

    Attributes:
        observed: the state.
        heard_at: when it last gave a sign of life.
        failures, answers: probes in a row that failed, or were answered.
        problems: what counts as wrong now.
        seen: problem -> how many probes in a row have seen it; unseen: how many have not (of those that count).
    """

    observed: Observed = "unknown"
    heard_at: float | None = None
    failures: int = 0
    answers: int = 0
    problems: frozenset[str] = frozenset()
    seen: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, int] = field(default_factory=dict)

    @property
    def suspect(self) -> bool:
        """Whether its probes fail, but not long enough to say so."""
        return self.failures > 0 and self.observed != "unreachable"

    @property
    def settled(self) -> bool:
        """Whether another probe at once could change nothing: nothing is waiting for a second sighting."""
        waiting = any(name not in self.problems for name in self.seen) or bool(self.unseen)
        return not waiting and not self.failures and self.observed not in ("unknown", "unreachable")


def heard(state: NodeState, at: float) -> NodeState:
    """Take a sign of life that is no answer to a probe (a heartbeat): it ends a suspicion, and proves nothing more."""
    return replace(state, heard_at=at, failures=0)


def failed(state: NodeState, at: float, rules: Rules = DEFAULT_RULES) -> NodeState:
    """Take a probe that was not answered."""
    since = at if state.heard_at is None else state.heard_at
    state = replace(state, heard_at=since, failures=state.failures + 1, answers=0)
    if state.observed != "unreachable" and state.failures >= rules.failures and at - since > rules.silence_s:
        # What was wrong with it is not known any more: it starts anew when it answers again.
        return replace(state, observed="unreachable", problems=frozenset(), seen={}, unseen={})
    return state


def answered(state: NodeState, at: float, problems: Collection[str], rules: Rules = DEFAULT_RULES) -> NodeState:
    """Take a probe that was answered, and what it found wrong (names of problems, none for a node that is well)."""
    answers = state.answers + 1
    state = replace(state, heard_at=at, failures=0, answers=answers)
    if state.observed == "unreachable" and answers < rules.answers:
        return state
    seen = {name: min(state.seen.get(name, 0) + 1, rules.sightings) for name in problems}
    absent = [name for name in state.problems if name not in seen]
    unseen = {name: state.unseen.get(name, 0) + 1 for name in absent}
    gone = {name for name, times in unseen.items() if times >= rules.sightings}
    counting = (state.problems - gone) | {name for name, times in seen.items() if times >= rules.sightings}
    return replace(
        state,
        observed="degraded" if counting else "healthy",
        problems=frozenset(counting),
        seen=seen,
        unseen={name: times for name, times in unseen.items() if name not in gone},
    )


def healed(checks: Sequence[tuple[float, bool]]) -> bool:
    """Say whether a node that the health sweep drained has been well for long enough.

    Args:
        checks: since it was drained, oldest first: when, and whether nothing was found that drains a node.
    """
    bad = [place for place, (_at, clean) in enumerate(checks) if not clean]
    well = checks[bad[-1] + 1 :] if bad else checks
    return len(well) >= HEALED_CHECKS and well[-1][0] - well[0][0] >= HEALED_S


def shown(observed: str, drained: bool, busy: bool) -> Shown:
    """Return the one word that people see: a drain hides what is observed, except that a node is unreachable."""
    if observed == "unreachable":
        return "unreachable"
    if drained:
        return "draining" if busy else "drained"
    return observed if observed in ("healthy", "degraded") else "unknown"  # type: ignore[return-value]
