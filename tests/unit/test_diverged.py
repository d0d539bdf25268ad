# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A run whose newest loss is NaN or infinite: it is said wherever losses are shown, and it is never the best run."""

from __future__ import annotations

import json
import re

from click.testing import CliRunner

from tests.unit.experiment_store import Experiments, own_store, ran  # noqa: F401
from ugro_py import experiments, results
from ugro_py.cli import cli
from ugro_py.experiments import figures as experiment_figures
from ugro_py.experiments import notes

LOST = [3.0, 0.5, None, None]


def test_a_diverged_run_is_never_the_best_and_comes_after_all_numbers(ran: Experiments) -> None:  # noqa: F811
    ran.run("good", [3.0, 2.0, 1.0, 1.5])
    ran.run("lost", LOST)
    ran.run("never", [None, None])
    for sort in ("loss", "-loss"):
        rows = experiments.ls(ran.store, sort=sort, wait_s=None).rows
        assert [row.job for row in rows] == ["good", "never", "lost"]
    good, never, lost = rows
    assert (good.loss_last, good.nonfinite_since) == (1.5, None)
    assert (lost.loss_last, lost.loss_best, lost.nonfinite_since) == (None, 0.5, 3)
    assert (never.loss_last, never.loss_best, never.nonfinite_since) == (None, None, 1)
    assert [row.job for row in experiments.ls(ran.store, filters=["loss<2"]).rows] == ["good"]
    found = json.loads(json.dumps(experiments.compare(ran.store, ["lost", "good"]).to_json(), allow_nan=False))
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures["final loss"] == {
        "name": "final loss", "unit": "", "values": [None, 1.5], "best": None, "nonfinite": [0],
    }  # fmt: skip
    assert figures["best loss"]["best"] == 0
    assert figures["NaN or infinite from step"]["values"] == [3, None]


def test_what_is_shown_of_a_diverged_run(own_store: Experiments) -> None:  # noqa: F811
    own_store.run("lost", LOST)
    own_store.run("good", [3.0, 2.0])

    def shown(*words: str) -> str:
        done = CliRunner().invoke(cli, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    assert re.search(
        r"loss last +NaN or infinite from step 3 on; before that 0\.5 at step 2\n", shown("results", "lost")
    )
    assert re.search(r"loss best +0\.5 at step 2\n", shown("results", "lost"))
    assert re.search(r"^lost +completed .* NaN +0\.5 ", shown("results", "ls"), re.MULTILINE)
    assert re.search(r"^final loss +NaN +2 *$", shown("compare", "lost", "good"), re.MULTILINE)
    table = notes.figures(results.summary("lost", own_store.store), {})
    assert "| Loss, last | NaN or infinite from step 3 on; before that 0.5 at step 2 |" in table
    told = json.loads(shown("results", "lost", "--json"))
    assert (told["loss_last"], told["nonfinite_since"], told["nonfinite_steps"]) == (None, 3, 2)


def test_a_loss_that_came_back_is_a_number(own_store: Experiments) -> None:  # noqa: F811
    own_store.run("back", [3.0, None, 2.0])
    found = results.summary("back", own_store.store)
    assert (found.loss_last, found.nonfinite_since, found.nonfinite_steps) == (results.LossPoint(3, 2.0), None, 1)


def test_figures_kept_before_this_was_told_are_read(ran: Experiments) -> None:  # noqa: F811
    ran.run("old", [3.0, 2.0])
    kept = dict(experiment_figures.of_job(ran.store, "old"))
    assert kept.pop("nonfinite_since") is None
    ran.store.keep_figures("old", ran.store.job("old").ended_at, figures=kept, loss_last=2.0)
    (row,) = experiments.ls(ran.store, wait_s=None).rows
    assert (row.loss_last, row.nonfinite_since) == (2.0, None)
    assert experiments.compare(ran.store, ["old"]).figures[0].values == (2.0,)
