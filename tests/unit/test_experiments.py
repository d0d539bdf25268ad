# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The list of all experiments: figures that are read once, filters, search, sorting, tags and notes."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.experiment_store import START, Experiments, ran  # noqa: F401 - a fixture
from ugro_py import experiments, metrics, results
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.experiments import figures as experiment_figures
from ugro_py.experiments.filters import changed_tags, check_note
from ugro_py.paths import JobPaths, experiment_notes
from ugro_py.reports.text import curve, print_experiments
from ugro_py.results.text import text as results_text


def names(page: experiments.Page) -> list[str]:
    return [row.job for row in page.rows]


def listed(ran: Experiments, **options: object) -> experiments.Page:  # noqa: F811
    return experiments.ls(ran.store, wait_s=None, **options)  # type: ignore[arg-type]


def test_a_row_has_what_a_job_achieved(ran: Experiments) -> None:  # noqa: F811
    ran.run("one", [4.0, 3.0, 2.0, 2.5], watts=360.0)
    page = listed(ran)
    assert page.total == 1
    row = page.rows[0]
    assert (row.job, row.status, row.user, row.model, row.dataset) == (
        "one", "completed", "ob", "tiny-llama", "python-docs",
    )  # fmt: skip
    assert (row.steps, row.loss_last, row.loss_best, row.throughput_tokens_sec) == (4, 2.5, 2.0, 200.0)
    assert row.spark == (4.0, 3.0, 2.0, 2.5)
    assert row.energy_kwh == pytest.approx(2 * 360 * 3 / 3.6e6, rel=1e-3)
    assert row.gpu_hours is not None
    assert row.gpu_hours >= 0
    assert row.tags == ()
    assert json.loads(json.dumps(page.to_json()))["experiments"][0]["spark"] == [4.0, 3.0, 2.0, 2.5]


def test_figures_of_an_ended_job_are_read_once(ran: Experiments) -> None:  # noqa: F811
    paths = ran.run("one")
    assert listed(ran).rows[0].loss_last == 1.0
    shutil.rmtree(paths.root)
    assert listed(ran).rows[0].loss_last == 1.0
    kept = experiment_figures.of_job(ran.store, "one")
    assert kept["loss_last"] == {"step": 3, "loss": 1.0}
    found = results.summary("one", ran.store)
    assert (found.folder_gone, found.loss_last, found.steps) == (True, results.LossPoint(3, 1.0), 3)
    shown = results_text(found)
    assert "1 at step 3" in shown
    assert f"There is no folder {paths.root} any more" in shown and "keeps" in shown
    assert results.from_json(**json.loads(json.dumps({"results": found.to_json(), "curve": []}))) == found
    experiments.finish("one", ran.store)  # a new tag does so: it takes none of them away
    assert experiment_figures.of_job(ran.store, "one") == kept
    shutil.rmtree(ran.run("two").root)
    assert "so no curve." in results_text(results.summary("two", ran.store))


def test_a_job_that_ends_again_has_other_figures(ran: Experiments) -> None:  # noqa: F811
    ran.run("one", status="failed")
    assert listed(ran).rows[0].steps == 3
    ran.store.reopen("one")
    ran.event("one", START + 9, "metrics", rank=0, step=9, training_loss=0.5)
    metrics.rebuild(JobPaths("one"))
    ran.store.set_job("one", "completed")
    row = listed(ran).rows[0]
    assert (row.steps, row.loss_last) == (9, 0.5)


def test_a_job_that_runs_is_listed_with_what_is_known(ran: Experiments) -> None:  # noqa: F811
    ran.run("one", status=None)
    row = listed(ran).rows[0]
    assert (row.status, row.loss_last, row.ended_at) == ("running", 1.0, None)
    assert row.duration_s is not None


def test_a_job_that_waits_has_no_figures(ran: Experiments) -> None:  # noqa: F811
    ran.store.create_job("one", "ob", {"script": "train.py", "model": "x"})
    row = listed(ran).rows[0]
    assert (row.model, row.dataset, row.duration_s, row.loss_last, row.spark) == ("train.py", None, None, None, ())


def test_filters_search_sort_and_parts(ran: Experiments) -> None:  # noqa: F811
    ran.run("alpha", [3.0, 2.0], request={"model": "llama-7b"})
    ran.run("beta", [3.0, 1.0], user="eva", status="failed")
    ran.run("gamma", [None], status="stopped")
    ran.store.set_tags("alpha", ["good", "paper/1"])
    ran.store.set_note("beta", "warm-up 100%_\nand more")
    assert names(listed(ran)) == ["gamma", "beta", "alpha"]
    assert names(listed(ran, sort="loss")) == ["beta", "alpha", "gamma"], "who has no loss comes last"
    assert names(listed(ran, sort="-loss")) == ["alpha", "beta", "gamma"]
    assert names(listed(ran, sort="job", limit=1, offset=1)) == ["beta"]
    assert listed(ran, limit=1).total == 3
    for words, found in (
        (["status=failed"], ["beta"]), (["status!=failed"], ["gamma", "alpha"]), (["user=eva", "loss<2"], ["beta"]),
        (["loss<=2"], ["beta", "alpha"]), (["loss < 1"], []), (["tag=good"], ["alpha"]),
        (["tag!=good"], ["gamma", "beta"]), (["tag~PAPER"], ["alpha"]), (["tag~z"], []),
        (["model~LLAMA-7"], ["alpha"]), (["steps>=2"], ["beta", "alpha"]),
    ):  # fmt: skip
        assert names(listed(ran, filters=words)) == found, words
    for text, found in (("EVA", ["beta"]), ("100%_", ["beta"]), ("%", ["beta"]), ("paper", ["alpha"]), ("zz", [])):
        assert names(listed(ran, search=text)) == found, text
    assert listed(ran).rows[1].note == "warm-up 100%_"


@pytest.mark.parametrize("word", ["", "loss<x", "loss<nan", "loss~3", "colour=red", "status<3", "status", "user=\0"])
def test_what_is_no_filter(ran: Experiments, word: str) -> None:  # noqa: F811
    with pytest.raises(UsageError, match="filter"):
        listed(ran, filters=[word])


def test_what_is_no_sort(ran: Experiments) -> None:  # noqa: F811
    with pytest.raises(UsageError, match="sort by"):
        listed(ran, sort="tag; drop table jobs")


def test_tags_and_notes(ran: Experiments) -> None:  # noqa: F811
    ran.store.create_job("one", "ob", {})
    assert ran.store.set_tags("one", ["b", "a", "b"])
    assert ran.store.tags("one") == ("a", "b")
    assert not ran.store.set_tags("one", ["a", "b"])
    assert ran.store.all_tags() == {"a": 1, "b": 1}
    assert ran.store.set_note("one", "line\r\ntwo\x1b[31m\x07")
    assert ran.store.note("one") == "line\ntwo[31m"
    assert not ran.store.set_note("one", "line\ntwo[31m")
    for call in (ran.store.tags, ran.store.note):
        with pytest.raises(NotFoundError):
            call("nope")
    with pytest.raises(UsageError, match="tag"):
        ran.store.set_tags("one", ["<b>"])
    with pytest.raises(UsageError, match="30 at most"):
        ran.store.set_tags("one", map(str, range(31)))
    with pytest.raises(UsageError, match="20000 at most"):
        check_note("x" * 20_001)
    with pytest.raises(UsageError, match="no text"):
        check_note("a\ud800")
    assert changed_tags(["old", "bad"], ["+good", "new", "-bad"]) == ("good", "new", "old")


def test_tags_that_two_people_give_at_once_are_all_kept(ran: Experiments) -> None:  # noqa: F811
    ran.run("one")

    def give(who: int) -> None:
        for number in range(5):
            assert ran.store.set_tags("one", None, [f"+{who}-{number}"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(give, range(4)))
    assert len(ran.store.tags("one")) == 20
    assert ran.store.set_tags("one", ["a"], ["b", "-0-0"])
    assert ran.store.tags("one") == ("a", "b")


def test_hostile_lines_leave_a_job_listed(ran: Experiments) -> None:  # noqa: F811
    paths = ran.run("one", [3.0, 2.0], watts=100.0)
    events = paths.node_events(1, "gpu1")
    with events.open("ab") as stream:
        for gpu in ('"x"', '{"power_w": NaN}', '{"power_w": 1e999}', '{"power_w": true}', '{"power_w": -5}',
                    '{"power_w": 1' + "0" * 400 + "}"):  # fmt: skip
            stream.write(b'{"t": 1700000003.0, "kind": "sample", "gpus": [' + gpu.encode() + b"]}\n")
        stream.write(b'{"t": "x", "kind": "sample", "gpus": [{"uuid": 1, "power_w": 5}]}\n"power_w"\n' + b"\xff" * 1000)
    row = listed(ran).rows[0]
    assert row.energy_kwh == pytest.approx(2 * 100 * 1 / 3.6e6, rel=0.02)


def test_losses_at_the_end_of_what_a_float_holds_leave_the_list_whole(
    ran: Experiments,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran.run("big", [8e307] * 100)
    ran.run("swings", [8e307 * (-1) ** (step // 3) for step in range(100)])
    page = listed(ran)
    assert all(isinstance(loss, float) for row in page.rows for loss in row.spark)
    json.dumps(page.to_json(), allow_nan=False)
    print_experiments(page.to_json()["experiments"], page.total)
    assert "8e+307" in capsys.readouterr().out
    assert len(curve([-1.7e308, None, 1.7e308], 12)) in (0, 2)  # none where the terminal has no such letters


def test_a_fault_in_the_figures_of_a_job_is_met_once(
    ran: Experiments,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran.run("one", status="failed")
    met = []

    def read(store: object, job: str) -> None:
        met.append(job)
        raise ZeroDivisionError

    monkeypatch.setattr(experiment_figures, "read", read)
    for _ in range(3):
        assert names(listed(ran)) == ["one"]
    assert met == ["one"]


def test_notes_of_an_experiment_have_the_new_figures(ran: Experiments) -> None:  # noqa: F811
    ran.run("one", [3.0, 2.0], watts=360.0)
    ran.store.set_tags("one", ["good"])
    ran.store.set_note("one", "a *star*\n<script>\n<!-- ugro: end of figures -->")
    path = experiment_figures.finish("one", ran.store)
    assert path == experiment_notes("one")
    text = path.read_text()
    assert "| Tags | good |" in text
    assert "> a \\*star\\*\n> &lt;script>" in text
    assert "kWh |" in text
    path.write_text(text + "mine\n")
    experiment_figures.finish("one", ran.store)
    assert path.read_text().endswith("mine\n")
