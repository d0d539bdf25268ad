"""`ugro queue` on a store of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ugro_py.cli import main
from ugro_py.scheduler import Gpu
from ugro_py.state import Controller, Store

INVENTORY = """
ugro_nodes:
  hosts:
    master: {ansible_host: 127.0.0.1, ansible_connection: local, ugro_role: master}
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("UGRO_AGENT", str(tmp_path / "data" / "agent.sock"))
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(INVENTORY)
    monkeypatch.setenv("UGRO_INVENTORY", str(inventory))
    with Store.open() as opened:
        from ugro_py.inventory import load_cluster

        node = load_cluster(str(inventory)).master
        opened.sync_node(node, [Gpu("g0", "master", 0, "cuda", "RTX", 8.0)], {})
        assert opened.acquire_lease(Controller.me(), 60.0)
        for name in ("a", "b", "c"):
            opened.create_job(name, "ob", {"name": name, "gpus": 1})
        opened.create_job("wide", "ob", {"name": "wide", "gpus": 2})
        yield opened


def ugro(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["queue", *arguments])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_the_list(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ugro(capsys)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["#", "JOB", "USER", "PRIORITY", "ASKS", "FOR", "AGE", "STARTS", "BY", "REASON"]
    assert lines[1].split()[1] == "a" and lines[1].rstrip().endswith("starts now")
    assert "waits for 1 GPU: master:0 is used by job a" in lines[2]
    assert lines[3].rstrip().endswith("behind job b (priority 50)")
    assert "asks for 2 GPUs; it may use 1 GPU" in lines[4]
    code, out, _ = ugro(capsys, "ls", "--json")
    assert [(job["place"], job["job"], job["asks"]) for job in json.loads(out)][:2] == [
        (1, "a", "1 GPU"),
        (2, "b", "1 GPU"),
    ]


def test_changes(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def names() -> list[str]:
        return [job["job"] for job in json.loads(ugro(capsys, "ls", "--json")[1])]

    assert ugro(capsys, "move", "c", "first")[:2] == (0, "job c moved first among the jobs of its user and priority\n")
    assert names() == ["c", "a", "b", "wide"]
    assert ugro(capsys, "move", "wide", "before", "a")[0] == 0
    assert names() == ["c", "wide", "a", "b"]
    assert ugro(capsys, "priority", "b", "urgent")[:2] == (0, "job b has priority 90\n")
    assert names() == ["b", "c", "wide", "a"]
    assert ugro(capsys, "hold", "b")[:2] == (0, "job b held\n")
    assert ugro(capsys, "hold", "b")[:2] == (0, "job b was held already\n")
    assert store.job("b").held
    assert ugro(capsys, "release", "b")[:2] == (0, "job b released\n")
    assert ugro(capsys, "cancel", "b")[:2] == (0, "job b cancelled\n")
    assert names() == ["c", "wide", "a"]
    verbs = [(line.verb, line.target) for line in store.audit()]
    assert sorted(verbs) == sorted(
        [
            ("move", "c"),
            ("move", "wide"),
            ("priority", "b"),
            ("hold", "b"),
            ("hold", "b"),
            ("release", "b"),
            ("cancel", "b"),
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["hold", "nope"], 8, "there is none"),
        (["priority", "a", "high"], 2, "is no priority"),
        (["priority", "a", "101"], 2, "is no priority"),
        (["move", "a", "up"], 2, "say `first`"),
        (["move", "a", "before"], 2, "say `first`"),
        (["move", "a", "first", "b"], 2, "say `first`"),
        (["move", "a", "before", "nope"], 8, "there is none"),
    ],
)
def test_what_makes_no_sense(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    ended, out, err = ugro(capsys, *arguments)
    assert (ended, out) == (code, "")
    assert said in err and len(err.splitlines()) == 1


def test_an_ended_job_is_not_changed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.set_job("a", "completed")
    for verb in ("hold", "release", "cancel"):
        code, _, err = ugro(capsys, verb, "a")
        assert code == 2 and "it does not wait, it is completed" in err


@pytest.mark.parametrize("verb", ["queue", "users", "nodes"])
def test_a_verb_alone_prints_the_json_of_its_list(store: Store, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    said = []
    for words in ([verb, "--json"], [verb, "ls", "--json"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert not ended.value.code
        said.append(json.loads(capsys.readouterr().out, object_hook=lambda one: {**one, "age_s": 0.0}))
    assert said[0] == said[1]


def test_nothing_waits(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c", "wide"):
        store.set_job(name, "stopped")
    assert ugro(capsys)[:2] == (0, "No job waits.\n")
