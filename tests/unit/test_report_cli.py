# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro results ls|tag|note|show` and `ugro compare`, in the caller's own store and through an agent."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.experiment_store import Experiments, own_store  # noqa: F401 - a fixture
from ugro_py import experiments
from ugro_py.cli import cli
from ugro_py.errors import NotFoundError, RightsError, UgroError, UsageError
from ugro_py.state.models import jobs
from ugro_py.status import render, status_of

CAPSULE = {
    "ugro_version": "0.1.0",
    "request": {"model": "tiny-llama", "batch_size": 4, "args": ["--lr", "0.1", "--hf-token", "***"]},
    "seed": 42,
    "world_size": 2,
    "ranks": [{"rank": rank, "gpu_name": "RTX 4090", "vram_gb": 24.0} for rank in (0, 1)],
    "nodes": [{
        "name": "gpu1", "driver": "570", "cuda": "12.8", "kernel": "6.1", "gpus": [{"name": "RTX 4090"}],
        "packages": {"python": "3.11", "cuda": "12.8", "packages": {"torch": "2.6", "numpy": "2.1"}},
    }],
    "code": {"folder": "train/", "digest": "aa", "git": {"commit": "c0ffee", "branch": "main", "diff": ""}},
}  # fmt: skip


def changed(**values: object) -> dict[str, object]:
    return json.loads(json.dumps({**CAPSULE, **values}))


@pytest.fixture
def own(own_store: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiments:  # noqa: F811
    """A store of the caller's own, without an agent and an inventory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("UGRO_INVENTORY", raising=False)
    return own_store


def ugro(*words: str, **options: object) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False, **options)  # type: ignore[arg-type]


def test_tags_and_notes_reach_the_markdown_notes_of_a_job_that_has_ended(own: Experiments) -> None:
    own.run("alpha", [3.0, 2.0])
    path = experiments.finish("alpha", own.store)
    path.write_text(path.read_text() + "mine\n")
    assert "| Tags | - |" in path.read_text()
    ugro("results", "tag", "alpha", "+good")
    ugro("results", "note", "alpha", "too", "hot")
    text = path.read_text()
    assert "| Tags | good |" in text and "> too hot" in text and text.endswith("mine\n")
    path.unlink()
    ugro("results", "tag", "alpha", "+better")
    assert not path.exists()  # who removed it does not want it


def test_notes_that_cannot_be_written_lose_no_tag(own: Experiments) -> None:
    own.run("alpha", [3.0, 2.0])
    path = experiments.finish("alpha", own.store)
    path.unlink()
    path.mkdir()
    assert ugro("results", "tag", "alpha", "+good").output == "job alpha has the tags good\n"
    assert [event.kind for event in own.store.events("alpha")][-1] == "notes_not_written"


def test_no_note_is_said_so(own: Experiments) -> None:
    own.run("alpha", [3.0, 2.0])
    said = ugro("results", "note", "alpha")
    assert (said.stdout, said.stderr) == ("", "job alpha has no note\n")


def test_tags_alone_are_listed(own: Experiments) -> None:
    own.run("alpha")
    assert ugro("results", "tag", "alpha").stderr == "job alpha has no tag\n"
    ugro("results", "tag", "alpha", "+good", "+json", "+bad")
    assert ugro("results", "tag", "alpha").stdout == "bad\ngood\njson\n"
    said = ugro("results", "tag", "alpha", "-json", "-bad", "--json").stdout
    assert json.loads(said) == {"job": "alpha", "changed": True, "tags": ["good"]}
    assert json.loads(ugro("results", "tag", "--json", "alpha").stdout)["changed"] is False
    ugro("results", "tag", "alpha", "phase2", "paper/h")
    assert json.loads(ugro("results", "tag", "alpha", "-phase2", "--json", "-paper/h").stdout)["tags"] == ["good"]
    with pytest.raises(NotFoundError, match="nope"):
        ugro("results", "tag", "nope")


def test_ls_filters_sorts_and_speaks_json(own: Experiments) -> None:
    own.run("alpha", [3.0, 2.0])
    own.run("beta", [3.0, 1.0], status="failed")
    ugro("results", "tag", "alpha", "+good", "paper")
    assert ugro("results", "tag", "alpha", "-paper").output == "job alpha has the tags good\n"
    assert ugro("results", "note", "beta", "too", "hot").output == "note of job beta kept\n"
    shown = ugro("results", "ls").output
    assert re.search(r"^beta +failed +ob +tiny-llama +1 ", shown, re.MULTILINE)
    assert re.search(r"^alpha .* good", shown, re.MULTILINE)
    assert "too hot" in shown
    found = json.loads(ugro("results", "ls", "--sort", "loss", "--json").output)
    assert [row["job"] for row in found["experiments"]] == ["beta", "alpha"]
    assert ugro("results").output == shown
    assert json.loads(ugro("results", "--json").output)["total"] == 2
    assert json.loads(ugro("results", "ls", "--tag", "good", "--json").output)["total"] == 1
    assert ugro("results", "ls", "--status", "running").output == "No such experiment.\n"
    assert "1 of 2" in ugro("results", "ls", "-n", "1").output
    with pytest.raises(UsageError, match="sort by"):
        ugro("results", "ls", "--sort", "colour")


def test_a_loss_and_a_duration_read_the_same_everywhere(own: Experiments) -> None:
    own.run("alpha", [8e307, 0.002506])
    began = datetime.now(UTC)
    with own.store.database.write() as connection:
        connection.execute(update(jobs).values(started_at=began, ended_at=began + timedelta(seconds=61.6)))
    notes = experiments.finish("alpha", own.store).read_text()
    shown = ugro("results", "alpha").output
    own.run("beta")
    for text in (ugro("results").output, shown, notes, ugro("compare", "alpha", "beta").output):
        assert "0.002506" in text and "1m01s" in text
    for text in (shown, notes):
        assert "8e+307 at step 1" in text


def test_the_status_of_a_job_is_neither_cut_nor_wrapped_in_a_pipe(
    own: Experiments, capsys: pytest.CaptureFixture[str]
) -> None:
    own.run("alpha", status=None)
    long = {"gpu": f"CPU-{'gpu-master-' * 6}0", "reason": "one word and another " * 9 + "end"}
    found = status_of(own.store, "alpha")
    render({**found, "reason": long["reason"], "ranks": [{**found["ranks"][0], "gpu": long["gpu"]}]})
    said = capsys.readouterr().out
    assert all(text in said for text in long.values())


def test_without_any_job(own: Experiments) -> None:
    assert ugro("results").output == "No experiment yet.\n"


def test_a_job_called_like_a_command(own: Experiments) -> None:
    for name in ("ls", "tag", "show"):
        own.run(name, [2.0])
        assert json.loads(ugro("results", "show", name, "--json").output)["job"] == name
        assert json.loads(ugro("results", "--json", "--", name).output)["job"] == name
    own.run("other", [2.0])
    assert json.loads(ugro("results", "--json", "other").output)["job"] == "other"
    assert "training loss" in ugro("results", "--width", "60", "other").output
    with pytest.raises(NotFoundError, match="nope"):
        ugro("results", "nope")


def test_notes_are_shown_replaced_and_removed(own: Experiments) -> None:
    own.run("one")
    ugro("results", "note", "one", "-", input="first\r\n\x1b[31msecond\n")
    assert ugro("results", "note", "one").output == "first\n[31msecond\n"
    assert json.loads(ugro("results", "note", "one", "--json").output) == {"job": "one", "text": "first\n[31msecond"}
    with pytest.raises(click.UsageError, match="--remove removes the note"):
        ugro("results", "note", "one", "")
    ugro("results", "note", "one", "--remove")
    assert ugro("results", "note", "one").stdout == ""
    assert [line.verb for line in own.store.audit()] == ["note", "note"]


def test_hostile_names_in_a_list_are_text(own: Experiments) -> None:
    own.run("one", request={"model": "[red]x\x1b]0;title\x07\r\n<script>"})
    shown = ugro("results", "ls").output
    assert "\x1b" not in shown and "\x07" not in shown
    assert "[red]x" in shown


def test_compare_shows_figures_and_what_differs(own: Experiments, tmp_path: Path) -> None:
    own.run("a", [4.0, 3.0, 2.0], watts=360.0, capsule=CAPSULE)
    request = changed()["request"] | {"args": ["--lr", "0.2", "--fast"]}  # type: ignore[operator]
    packages = changed()["nodes"]
    packages[0]["packages"]["packages"]["torch"] = "2.7"  # type: ignore[index]
    ranks = [{"rank": 0, "gpu_name": "RTX 3070", "vram_gb": 8.0}]
    own.run("b", [4.0, 2.5, 1.0], capsule=changed(request=request, nodes=packages, ranks=ranks, seed=7))
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "ugro_nodes:\n  hosts:\n    gpu1: {ansible_connection: local, ugro_role: master}\n"
        "  vars:\n    ugro_energy: {price_per_kwh: 0.5, currency: CHF}\n"
    )
    found = json.loads(ugro("-i", str(inventory), "compare", "a", "b", "--loss", "2.5", "--json").output)
    assert found["jobs"] == ["a", "b"]
    figures = {row["name"]: row for row in found["figures"]}
    assert figures["final loss"]["values"] == [2.0, 1.0]
    assert figures["final loss"]["best"] == 1
    assert figures["step of a loss of 2.5"]["values"] == [3, 2]
    never = ugro("-i", str(inventory), "compare", "a", "b", "--loss", "0.01").output
    assert re.search(r"^time to a loss of 0\.01 +- +-", never, re.M), "that neither got there is an answer too"
    assert figures["time"]["best"] is not None or len(set(figures["time"]["values"])) == 1
    kwh = 2 * 360 * 2 / 3.6e6
    assert figures["GPU energy"]["values"] == [pytest.approx(kwh, rel=1e-2), None]
    assert figures["cost of that energy"]["unit"] == "CHF"
    assert figures["cost of that energy"]["values"] == [pytest.approx(kwh / 2, abs=1e-4), None]
    assert "GPU utilisation" in figures
    differ = {(row["section"], row["key"]): row["values"] for row in found["differences"]}
    assert differ == {
        ("hyper-parameters", "seed"): [42, 7],
        ("hyper-parameters", "--lr"): ["0.1", "0.2"],
        ("hyper-parameters", "--hf-token"): ["***", None],
        ("hyper-parameters", "--fast"): [None, "given"],
        ("packages", "torch"): ["2.6", "2.7"],
        ("hardware", "GPUs of the ranks"): ["2 x RTX 4090 24 GB", "1 x RTX 3070 8 GB"],
    }
    shown = ugro("-i", str(inventory), "compare", "a", "b").output
    assert re.search(r"^final loss +2 +1 \* *$", shown, re.MULTILINE)
    assert re.search(r"^torch +2\.6 +2\.7 *$", shown, re.MULTILINE)
    assert "not kept" in shown
    everything = json.loads(ugro("-i", str(inventory), "compare", "a", "b", "--all", "--json").output)
    same = [row for row in everything["differences"] if not row["differs"]]
    assert {"section": "code", "key": "git commit", "values": ["c0ffee", "c0ffee"], "differs": False} in same


def test_who_did_less_is_no_better_for_that(own: Experiments) -> None:
    own.run("a", [3.0, 2.0, 1.0])
    own.run("b", [3.0])
    found = json.loads(ugro("compare", "a", "b", "--json").output)
    best = {row["name"]: row["best"] for row in found["figures"]}
    assert (best["time"], best["GPU hours"], best["final loss"]) == (None, None, 0)


def test_compare_of_jobs_without_anything(own: Experiments) -> None:
    for name in ("a", "b"):
        own.store.create_job(name, "ob", {"model": "x", "env": {"HF_TOKEN": "secret"}, "args": ["--password", "p"]})
    shown = ugro("compare", "a", "b", "--loss", "1", "--json").output
    assert json.loads(shown)["differences"] == []
    assert json.loads(shown)["without_capsule"] == ["a", "b"]
    assert "nothing is known of how a, b ran" in ugro("compare", "a", "b").output
    assert "secret" not in ugro("compare", "a", "b", "--all", "--json").output
    with pytest.raises(NotFoundError, match="nope"):
        ugro("compare", "a", "nope")


def test_a_job_that_never_began_is_best_in_nothing(own: Experiments) -> None:
    own.store.create_job("waits", "ob", {"model": "x"})
    own.run("ran", [4.0, None])
    own.run("better", [4.0, 3.0])
    found = json.loads(ugro("compare", "waits", "ran", "better", "--json").output)["figures"]
    figures = {row["name"]: (row["values"], row["best"]) for row in found}
    assert not [name for name, (_, best) in figures.items() if best == 0]
    assert figures["attempts"] == ([None, 1, 1], None)
    assert figures["steps with a loss of NaN or infinity"] == ([None, 1, 0], 2)


def test_a_run_capsule_that_is_none(own: Experiments) -> None:
    hostile = {
        "request": {"args": 3, "env": [], "model": {"a": 1}},
        "nodes": {"x": 1},
        "ranks": ["x", None],
        "code": [],
    }
    own.run("a", capsule=hostile)
    paths = own.run("b")
    paths.config.write_text("[" * 100_000)
    assert ugro("compare", "a", "b", "--all").exit_code == 0


def test_through_an_agent_with_the_rights_of_the_caller(
    start: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    from ugro_py import users

    served = start()
    ran = Experiments(served.agent.store)
    ran.run("mine", [3.0, 1.0], user=users.me().user)
    ran.run("theirs", [3.0, 2.0], user="eva")
    # A caller whose own store is elsewhere asks the agent for everything.
    monkeypatch.setenv("UGRO_AGENT", str(served.path))
    from ugro_py.api import client

    monkeypatch.setattr(client, "is_own", lambda socket: False)
    found = json.loads(ugro("results", "ls", "--sort", "loss", "--json").output)
    assert [row["job"] for row in found["experiments"]] == ["mine", "theirs"]
    assert ugro("results", "tag", "mine", "+good").output == "job mine has the tags good\n"
    assert ugro("results", "tag", "mine").output == "good\n"
    ugro("results", "note", "mine", "via the agent")
    assert served.agent.store.note("mine") == "via the agent"
    assert json.loads(ugro("compare", "mine", "theirs", "--json").output)["figures"][0]["values"] == [1.0, 2.0]
    monkeypatch.setattr(users, "is_admin", lambda *given, **options: False)
    for words in (["tag", "theirs", "+x"], ["note", "theirs", "x"]):
        with pytest.raises(RightsError, match="eva's"):
            ugro("results", *words)
    assert served.agent.store.tags("theirs") == ()
    assert json.loads(ugro("compare", "mine", "theirs", "--json").output)["code"] == []
    assert json.loads(ugro("compare", "mine", "mine", "theirs", "--json").output)["jobs"] == ["mine", "theirs"]
    with pytest.raises(UgroError):
        ugro("results", "ls", "--filter", "nonsense")
    with pytest.raises(UsageError):
        ugro("results", "tag", "mine", "+<b>")
