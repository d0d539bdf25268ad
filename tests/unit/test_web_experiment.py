# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard's page of one experiment: complete without a script, live, safe whatever the job says."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.test_api import TOKEN, token_file  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, get, page, values, words
from ugro_py.api.server import Listen
from ugro_py.web import kept, svg
from ugro_py.web.capsule_view import capsule_view


def test_a_job_that_waits(start: Serve) -> None:
    served = start()
    served.agent.store.create_job("first", "ob", {"model": "tiny-llama"})
    shown = words(page(served, "/experiments/first"))
    for said in ("No metrics yet", "No ranks yet", "No logs yet", "No files yet", "No capsule yet", "pending"):
        assert said in shown
    assert values(served, "/experiments/first/charts") == {"charts": [], "left_out": []}
    assert values(served, "/experiments/first/samples")["charts"] == []
    assert get(served, "/experiments/none")[0] == 404
    assert get(served, "/experiments/none/charts")[0] == 404
    assert get(served, "/experiments/none/live")[0] == 404


def test_a_job_that_runs_is_complete_without_a_script(start: Serve) -> None:
    served = start()
    job = Job(served)
    attempt = job.start()
    for step in range(1, 21):
        job.step(attempt, step, total_steps=100, training_loss=9.0 / step, throughput_tokens_sec=50, gpu_util=88.5,
                 timestamp=f"2026-01-20T12:00:{step:02d}Z")  # fmt: skip
    job.log(b"step 20\n")
    shown = page(served, "/experiments/first")
    text = words(shown)
    assert "20 of 100" in text
    assert "0.45" in text
    assert "1m20s" in text  # 80 steps are left, one a second
    assert "88.5" in text
    assert "step 20" in text
    assert shown.count("<polyline") == 1
    assert "gpu-master, gpu1" in text
    assert 'action="/experiments/first/stop"' in shown
    assert 'action="/experiments/first/resume"' not in shown
    job.end("failed")
    shown = page(served, "/experiments/first")
    assert '<span class="muted">s</span>' not in shown  # a time is no number of seconds here either
    assert 'action="/experiments/first/stop"' not in shown
    for action in ("resume", "rerun", "note", "tags"):
        assert f'hx-post="/experiments/first/{action}"' in shown
    part = page(served, "/experiments/first?part=actions")
    assert "<html" not in part
    assert "/experiments/first/resume" in part


def test_answers_that_are_kept_take_so_much_memory_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_KEPT_BYTES", 100)
    answers = kept.Kept()
    for key in range(5):
        answers.get("first", key, lambda: "x" * 40)
    assert [answers.last("first", key) is not None for key in range(5)] == [False, False, False, True, True]
    assert len(answers.get("first", "big", lambda: "x" * 400)[1]) == 402
    assert answers.last("first", 4) is None


def test_many_who_ask_at_once_wait_for_one_answer(start: Serve) -> None:
    served = start()
    Job(served)
    answers, made, go = kept.Kept(), [], threading.Event()

    def make() -> list[int]:
        made.append(1)
        assert go.wait(60)
        return [1]

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(answers.get, "first", "x", make) for _ in range(8)]
        answers.ahead("first", "x", make)
        go.set()
        assert {one.result()[1] for one in asked} == {b"[1]"}
    assert len(made) == 1


def test_what_a_job_says_is_text_everywhere(start: Serve) -> None:
    served = start()
    job = Job(served, request={"model": HTML, "dataset": "a\r\nSet-Cookie: x=1"})
    attempt = job.start()
    job.step(attempt, 1, training_loss=1.0, total_steps=HTML, gpu_util="<b>", gradient_norm=1e400)
    job.log(HTML.encode() + b"\n")
    job.store.add_event("odd", f"{HTML}\x1b[31m\r\nnext", job="first", node=HTML)
    job.store.set_note("first", f"</textarea>{HTML}")
    job.paths.config.write_text(json.dumps({"model": HTML, "nodes": [{"name": HTML, "gpus": "x"}, 5], "code": [],
                                            "request": {HTML: HTML}}))  # fmt: skip
    (job.paths.checkpoints / f"{HTML.replace('/', '_')}.pt").write_bytes(b"x")
    job.end("failed")
    job.store.set_job("first", "failed", f"it said {HTML}")
    shown = page(served, "/experiments/first")
    assert "Set-Cookie" in words(shown)
    assert "\x1b" not in shown
    page(served, "/experiments/first/artifacts")
    assert get(served, "/experiments/first")[2]["set-cookie"] is None


def test_damaged_files_are_no_error(start: Serve) -> None:
    served = start()
    job = Job(served)
    job.start()
    job.paths.metrics.write_bytes(
        b'{"rank": "x"}\n\xff\n7\n{"rank": 0, "step": 1, "training_loss": NaN}\n' + b"[" * 9000
    )
    job.paths.config.write_text("{no JSON")
    assert "No capsule yet" in page(served, "/experiments/first")
    values(served, "/experiments/first/charts")
    job.paths.config.write_text("[" * 50_000)
    page(served, "/experiments/first")


def test_downloads_stay_in_the_folder_of_the_job(start: Serve, tmp_path: Path) -> None:
    served = start()
    job = Job(served)
    (tmp_path / "secret").write_text("secret")
    job.paths.cluster.write_text("secret\n")
    (job.paths.checkpoints / "link.pt").symlink_to(tmp_path / "secret")
    (job.paths.root / "tensorboard2").symlink_to(tmp_path)
    os.mkfifo(job.paths.logs / "pipe.log")
    (job.paths.checkpoints / "a b#?%.pt").write_bytes(b"\x00weights")
    shown = page(served, "/experiments/first/artifacts")
    assert "link.pt" not in shown
    assert "pipe.log" not in shown
    address = "/experiments/first/artifacts/checkpoints/a%20b%23%3F%25.pt"
    assert f'href="{address}"' in shown
    status, text, headers = get(served, address)
    assert (status, text) == (200, "\x00weights")
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"
    for wrong in ("../../../secret", "..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "checkpoints/link.pt", "cluster.json",
                  "checkpoints/../config.json", "tensorboard2/secret", "/etc/passwd", "%2fetc%2fpasswd",
                  "logs/pipe.log", "checkpoints/%00", "checkpoints", "a.db", "checkpoints//a", "x" * 500):  # fmt: skip
        status, text, _ = get(served, f"/experiments/first/artifacts/{wrong}")
        assert status in (400, 404), wrong
        assert "secret\n" not in text


def test_code_is_shown_to_its_owner_alone(start: Serve, token_file: Path) -> None:
    served = start()
    job = Job(served)
    capsule = {"seed": 42, "code": {"digest": "abc", "git": {"diff": "+ my own idea"}}, "program": ["a.py", "hunter2"],
               "request": {"gpus": 3, "args": ["hunter2"], "env": {"DATABASE_URL": "sql://me:hunter2@db"}}}  # fmt: skip
    job.paths.config.write_text(json.dumps(capsule))
    own, other = capsule_view("first", owner=True), capsule_view("first", owner=False)
    assert str(own.sections if own else "").count("hunter2") == 3
    assert "hunter2" not in str(other) and "('gpus', '3')" in str(other) and "('seed', '42')" in str(other)
    assert own is not None and own.diff == "+ my own idea" and "my own idea" in (own.raw or "")
    assert other is not None and other.hidden and "my own idea" not in str(other)
    assert "my own idea" in page(served, "/experiments/first")
    assert "my own idea" in get(served, "/experiments/first/artifacts/config.json")[1]


def test_a_command_is_shown_as_it_would_be_typed(start: Serve) -> None:
    job = Job(start())
    words = ["a.py", "--name", "two words", "--lr=0.1"]
    job.paths.config.write_text(json.dumps({"program": words, "request": {"args": words[1:], "include": ["a", "b"]}}))
    found = capsule_view("first", owner=True)
    rows = {key: value for section in found.sections for key, value in section.rows} if found else {}
    assert rows == {"program": "a.py --name 'two words' --lr=0.1", "args": "--name 'two words' --lr=0.1",
                    "include": "a, b"}  # fmt: skip
    request = {"script": "a.py", "model": "tiny-llama", "dataset": "python-docs", "epochs": 1, "retry": 2}
    job.paths.config.write_text(json.dumps({"program": ["a.py"], "model": "tiny-llama", "request": request}))
    found = capsule_view("first", owner=True)
    rows = {key: value for section in found.sections for key, value in section.rows} if found else {}
    assert rows == {"program": "a.py", "script": "a.py", "retry": "2"}  # it trains none of UGRO's models
    job.paths.config.write_text(json.dumps({"program": {"no": "list"}, "request": {"args": 7}}))
    assert capsule_view("first", owner=True) is not None


def test_who_is_no_owner_sees_no_buttons_and_no_code(start: Serve, token_file: Path) -> None:
    port = free_port()
    served = start(Listen.parse(f"127.0.0.1:{port}", token_file))
    job = Job(served)
    job.start()
    request = {"args": ["--lr", "0.0625017"], "env": {"DATABASE_URL": "sql://me:hunter2@db"}}
    capsule = {"seed": 42, "code": {"git": {"diff": "+ my own idea"}}, "request": request}
    job.paths.config.write_text(json.dumps(capsule))

    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/experiments/first", headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200
    assert "/experiments/first/stop" not in text
    assert "/experiments/first/note" not in text
    assert "my own idea" not in text
    connection.request("GET", "/experiments/first/artifacts/config.json", headers={"Authorization": f"Bearer {TOKEN}"})
    assert connection.getresponse().status == 404
    connection.close()
    for url in ("/compare?job=first", "/v1/compare?job=first&all=true"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", url, headers={"Authorization": f"Bearer {TOKEN}"})
        text = connection.getresponse().read().decode()
        connection.close()
        assert "0.0625017" not in text and "hunter2" not in text, url
        assert all(word in get(served, url)[1] for word in ("0.0625017", "hunter2")), url
    for url in ("/experiments/first", "/experiments/first/charts", "/experiments/first/logs?form=json",
                "/experiments/first/artifacts/config.json", "/compare/chart?job=first"):  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", url)
        assert connection.getresponse().status in (303, 401), url
        connection.close()


@pytest.mark.parametrize("values", [[1.0], [], [None, float("nan")], [1.0, None, 2.0, 3.0], [1e308, -1e308, 5.0]])
def test_sparklines_stay_in_their_frame(values: list[float | None]) -> None:
    for points in svg.spark(values):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 96
            assert 0 <= y <= 24


def test_a_chart_that_stands_still() -> None:
    line = {"name": "mean", "x": [1, 2, 3, None, 5], "y": [1.0, None, 3.0, 4.0, float("inf")]}
    drawn = svg.still({"lines": [line]})
    assert drawn is not None
    assert len(drawn.lines[0][2]) == 2
    assert [text for _, text in drawn.y_ticks] == ["1", "2", "3"]
    assert svg.still({"lines": []}) is None
    assert svg.still({"lines": [{"name": "x", "x": [1], "y": [None]}]}) is None


def test_bottlenecks_as_a_part_and_as_a_page(start: Serve) -> None:
    served = start()
    job = Job(served, request={"model": HTML})
    assert "no metrics yet" in words(page(served, "/experiments/first/bottlenecks"))
    attempt = job.start()
    for step in range(1, 30):
        for rank, own in ((0, 1.0), (1, 1.5)):
            job.tell(attempt, rank, step, step_time_s=1.6, wait_time_s=1.6 - own, data_time_s=0.1, node=HTML)
    shown = page(served, "/experiments/first/bottlenecks")
    assert "(gpu1, GPU " in words(shown) and ") is the slowest: 50 % behind" in words(shown)
    assert "waiting for slower ranks" in words(shown)
    status, part, _ = get(served, "/experiments/first/bottlenecks", **{"HX-Request": "true"})
    assert status == 200
    assert "<html" not in part
    assert "is the slowest" in part
    assert "<code>ugro check gpu1 --deep</code>" in part and "`" not in part
    assert '<a href="/experiments/first/bottlenecks">' in page(served, "/experiments/first")
    assert get(served, "/experiments/none/bottlenecks")[0] == 404


def test_bottlenecks_of_a_job_without_a_folder(start: Serve) -> None:
    served = start()
    served.agent.store.create_job("waits", "ob", {"model": "tiny-llama"})
    assert "No metrics yet" in words(page(served, "/experiments/waits/bottlenecks"))
    job = Job(served)
    job.step(job.start(), 1)
    job.end()
    shutil.rmtree(job.paths.root)
    for header in ({}, {"HX-Request": "true"}):
        status, text, _ = get(served, "/experiments/first/bottlenecks", **header)
        assert status == 200 and "Its folder is gone" in words(text), text
        assert "notice-error" not in text and str(job.paths.root.parent) not in text
