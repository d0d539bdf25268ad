# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `ugro export` and `ugro plot` write, read by the programs it is for."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.experiment_store import START, Experiments, own_store  # noqa: F401 - a fixture
from ugro_py import metrics, results
from ugro_py.cli import cli
from ugro_py.errors import NotFoundError, StateError, UsageError
from ugro_py.paths import JobPaths


@pytest.fixture
def own(own_store: Experiments) -> Experiments:  # noqa: F811
    """A store of the caller's own with two jobs, one of which reports more than the other."""
    own_store.run("one", [3.0, None, 1.0])
    own_store.run("two", [4.0, 2.0], status=None)
    told = {"rank": 0, "step": 3, "training_loss": 1.5, "epoch": 0.5, "phase": "warm\nup", "deep": {"a": 1}}
    own_store.event("two", START + 9, "metrics", **told)
    metrics.rebuild(JobPaths("two"))
    own_store.store.set_job("two", "failed", "it broke", 1)
    return own_store


def ugro(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False, catch_exceptions=False)


def test_csv_and_parquet_hold_what_load_gives(own: Experiments, tmp_path: Path) -> None:
    whole = pd.concat([results.load("one"), results.load("two")], ignore_index=True)
    for name in ("x.csv", "x.parquet"):
        said = json.loads(ugro("export", "one", "two", "-o", tmp_path / name, "--json").output)
        assert said["lines"] == 11
        frame = pd.read_csv(tmp_path / name) if name == "x.csv" else pd.read_parquet(tmp_path / name)
        assert list(frame.columns) == list(whole.columns)
        assert frame["job_id"].tolist() == whole["job_id"].tolist()
        assert frame["training_loss"].tolist() == pytest.approx(whole["training_loss"].tolist(), nan_ok=True)
        assert pd.to_datetime(frame["timestamp"], utc=True).tolist() == whole["timestamp"].tolist()
        (other,) = frame["other"].dropna().tolist()
        assert json.loads(other) == {"phase": "warm\nup", "deep": {"a": 1}}
    assert not list(tmp_path.glob(".*.part"))


def test_csv_keeps_parts_of_a_second(own: Experiments, tmp_path: Path) -> None:
    own.event("two", START + 11, "metrics", rank=0, step=5, timestamp="2026-01-20T12:00:00.250Z")
    metrics.rebuild(JobPaths("two"))
    ugro("export", "one", "two", "-o", tmp_path / "x.csv")
    written = pd.to_datetime(pd.read_csv(tmp_path / "x.csv")["timestamp"], utc=True)
    assert written.tolist() == [*results.load("one")["timestamp"], *results.load("two")["timestamp"]]
    assert pd.Timestamp("2026-01-20T12:00:00.250Z") in written.tolist()


def test_json_holds_everything(own: Experiments, tmp_path: Path) -> None:
    own.store.set_tags("one", ["good"])
    own.store.set_note("one", "line\ntwo")
    ugro("export", "one", "two", "-o", tmp_path / "x.json")
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    one, two = found["jobs"]
    assert (one["job"], one["tags"], one["note"]) == ("one", ["good"], "line\ntwo")
    assert one["results"]["loss_last"] == {"step": 3, "loss": 1.0}
    assert two["run_with"]["hyper-parameters"]["model"] == "tiny-llama"
    assert len(one["metrics"]) == 6
    assert two["metrics"][-1]["deep"] == {"a": 1}


def test_json_has_null_for_what_is_no_number(own: Experiments, tmp_path: Path) -> None:
    with JobPaths("one").metrics.open("a") as lines:  # as a file from elsewhere may have it
        lines.write(
            '{"rank": 0, "step": 4, "training_loss": NaN, "deep": [1e999, {"x": -Infinity}], "lr": 0.5}\nbroken\n'
        )
    ugro("export", "one", "-o", tmp_path / "x.json")
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    line = found["jobs"][0]["metrics"][-1]
    assert line == {"rank": 0, "step": 4, "training_loss": None, "deep": [None, {"x": None}], "lr": 0.5}


def test_nothing_is_overwritten_unasked(own: Experiments, tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("mine")
    for words in (("export", "one", "-o", target), ("plot", "one", "-o", tmp_path)):
        with pytest.raises(UsageError):
            ugro(*words)
    assert target.read_text() == "mine"
    ugro("export", "one", "-o", target, "--force")
    assert len(pd.read_csv(target)) == 6
    with pytest.raises(UsageError, match="no format"):
        ugro("export", "one", "-o", tmp_path / "x.dat")
    with pytest.raises(NotFoundError, match="nope"):
        ugro("export", "nope", "-o", tmp_path / "y.csv")
    for words in (("export", "one", "-o", tmp_path / "no where" / "y.csv"), ("plot", "one", "-o", "no where/y.html")):
        with pytest.raises(UsageError, match=r"there is no folder .*no where; make it .`mkdir -p '.*no where'`"):
            ugro(*words)
    assert not (tmp_path / "y.csv").exists()


def test_what_cannot_be_replaced_is_said(own: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    for target, error, said in (
        (Path("/dev/full"), UsageError, "a device"),
        (tmp_path, UsageError, "a folder"),
        (tmp_path / "file" / "x.csv", StateError, "Not a directory"),
        (tmp_path / ("x" * 300), StateError, "too long"),
    ):
        for force in ((), ("--force",)):
            with pytest.raises(error, match=said) as caught:
                ugro("export", "one", "--format", "csv", "-o", target, *force)
            assert "--force" not in str(caught.value), "it would not help"
    assert Path("/dev/full").is_char_device()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="standard output"):
        ugro("export", "one", "--format", "parquet", "-o", "-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file"]


def test_what_cannot_be_read_is_not_taken_for_what_cannot_be_written(own: Experiments, tmp_path: Path) -> None:
    JobPaths("one").metrics.unlink()
    JobPaths("one").metrics.mkdir()
    for kind in ("json", "csv", "parquet"):
        with pytest.raises(StateError, match=r"read .*one/metrics\.jsonl: Is a directory"):
            ugro("export", "two", "one", "-o", tmp_path / f"x.{kind}")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_job_without_metrics_is_said(own: Experiments, tmp_path: Path) -> None:
    own.store.create_job("waits", "ob", {"model": "x"})
    own.run("quiet", [])
    done = ugro("export", "one", "waits", "quiet", "-o", tmp_path / "x.json", "--json")
    assert done.stderr == "there is no line of metrics of waits, quiet\n"
    assert json.loads(done.stdout)["lines"] == 6
    assert not ugro("export", "one", "two", "-o", tmp_path / "y.json").stderr


def test_standard_output_has_the_export_and_nothing_else(own: Experiments, tmp_path: Path) -> None:
    for kind in ("csv", "json"):
        ugro("export", "one", "two", "-o", tmp_path / f"x.{kind}")
        for option, told in ((), "11 lines of 2 jobs"), (("--json",), '"lines": 11'):
            said = ugro("export", "one", "two", "--format", kind, "-o", "-", *option)
            assert said.stdout_bytes == (tmp_path / f"x.{kind}").read_bytes()
            assert told in said.stderr
    with pytest.raises(UsageError, match="no format"):
        ugro("export", "one", "-o", "-")


def test_pandas_reads_the_open_format(own: Experiments) -> None:
    frame = pd.read_json(JobPaths("one").metrics, lines=True)
    assert frame["training_loss"].tolist() == pytest.approx([3.0, 3.0, math.nan, math.nan, 1.0, 1.0], nan_ok=True)
    assert frame["step"].tolist() == [1, 1, 2, 2, 3, 3]


def test_without_mlflow_and_matplotlib_it_is_said(own: Experiments, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['mlflow'] = sys.modules['matplotlib'] = None\n"
        "from ugro_py.cli import main\nmain(sys.argv[1:])\n"
    )
    for words, extra in (
        (["export", "one", "--format", "mlflow", "-o", str(tmp_path / "runs")], "ugro[mlflow]"),
        (["plot", "one", "-o", str(tmp_path / "x.png")], "ugro[plots]"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert f"pip install '{extra}'" in done.stderr


def test_pictures(own: Experiments, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    assert ugro("plot", "one", "two", "-o", tmp_path / "x.png", "--log").output.startswith("2 curves in ")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG\r\n")
    ugro(
        "plot", "one", "two", "-o", tmp_path / "x.svg", "-m", "training_loss", "-m", "epoch", "--by", "time", "--ranks"
    )
    texts = [node.text for node in ElementTree.parse(tmp_path / "x.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"one rank 0", "one rank 1", "two rank 0", "hours since the first step", "training loss"} <= set(texts)
    ugro(
        "plot", "one", "two", "-o", tmp_path / "y.svg", "-m", "training_loss", "-m", "epoch", "--by", "time", "--ranks"
    )
    assert (tmp_path / "x.svg").read_bytes() == (tmp_path / "y.svg").read_bytes(), "the same data, the same file"


def test_a_metric_with_a_hostile_name(own: Experiments, tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>$\\frac{"
    own.event("one", START + 20, "metrics", rank=0, step=20, **{name: 1.0})
    metrics.rebuild(JobPaths("one"))
    ugro("plot", "one", "-o", tmp_path / "x.html", "-m", name)
    text = (tmp_path / "x.html").read_text()
    assert text.count("</script>") == 3, "that of the data, of the library and of the script"
    assert "<script>alert" not in text
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    ugro("plot", "one", "-o", tmp_path / "x.svg", "-m", name)
    ElementTree.parse(tmp_path / "x.svg")


def test_a_page_holds_all_it_needs(own: Experiments, tmp_path: Path) -> None:
    ugro("plot", "one", "two", "-o", tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert "uPlot" in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", text)
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[0])
    (panel,) = data["panels"]
    assert [curve["name"] for curve in panel["curves"]] == ["one", "two"]
    assert panel["curves"][0]["y"] == [3.0, None, 1.0]
    assert [(curve["first"], curve["last"]) for curve in panel["curves"]] == [(3.0, 1.0), (4.0, 1.5)]
    assert "<td>1.5</td>" in text


def test_a_metric_nobody_tells(own: Experiments, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="they tell epoch, throughput_tokens_sec, training_loss"):
        ugro("plot", "one", "two", "-o", tmp_path / "x.html", "-m", "accuracy")
    assert not (tmp_path / "x.html").exists()


def test_through_an_agent(start: Serve, tmp_path: Path) -> None:  # noqa: F811
    """A caller whose own store is elsewhere, in a process of its own."""
    served = start()
    Experiments(served.agent.store).run("one", [3.0, 2.0])
    environment = {**os.environ, "UGRO_AGENT": str(served.path), "UGRO_DATA": str(tmp_path / "elsewhere")}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", "from ugro_py.cli import main; main()", *map(str, words)]
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=False)

    for name in ("x.csv", "x.json", "x.html"):
        done = run("plot" if name == "x.html" else "export", "one", "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "x.csv")["training_loss"].tolist() == [3.0, 3.0, 2.0, 2.0]
    (job,) = json.loads((tmp_path / "x.json").read_text())["jobs"]
    assert (job["results"]["steps"], len(job["metrics"])) == (2, 4)
    assert '"y": [3.0, 2.0]' in (tmp_path / "x.html").read_text()
    done = run("export", "nope", "-o", tmp_path / "y.csv")
    assert done.returncode == 8, done.stderr
    assert not (tmp_path / "elsewhere").exists()
