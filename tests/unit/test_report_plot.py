# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of what training seldom tells: numbers at the end of a double, one point, none, very many."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ugro_py import results, series
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.paths import JobPaths
from ugro_py.reports import plot
from ugro_py.reports.plot import Looks, panels

GREATEST = 1.7976931348623157e308
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))


def told(job: str, losses: Sequence[float | None], name: str = "training_loss", ranks: int = 1) -> None:
    paths = JobPaths(job)
    paths.root.mkdir(parents=True)
    with paths.metrics.open("w") as stream:
        for step, loss in enumerate(losses, 1):
            for rank in range(ranks):
                more = {"nonfinite": [name]} if loss is None else {}
                stream.write(json.dumps({"attempt": 1, "rank": rank, "step": step, name: loss, **more}) + "\n")


def draw(jobs: Sequence[str], target: Path, looks: Looks, column: str = "training_loss") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plot.write(jobs, [column], target, looks) == len(jobs)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "losses",
    [
        [GREATEST, -GREATEST, 1.0], [GREATEST, GREATEST], [GREATEST], [1e290, 3.0, None], [5e-324, 1e-320],
        [1e16, 1e16], [1.0], [-1.0], [0.0, 0.0], [None, 2.0, None],
    ],
)  # fmt: skip
def test_any_number_can_be_drawn(tmp_path: Path, losses: list[float | None], log: bool) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    told("one", losses)
    for name in ("x.png", "x.svg", "x.html"):
        draw(["one"], tmp_path / name, Looks(log=log))
        assert (tmp_path / name).stat().st_size > 1000


def test_huge_numbers_are_in_units_that_are_told() -> None:
    told("one", [GREATEST, 1e307])
    (panel,) = panels(["one"], ["training_loss"], Looks())
    assert panel.label == "training loss (1e308)"
    assert panel.curves[0].y == pytest.approx([1.7976931348623157, 0.1])
    assert (panel.curves[0].first, panel.curves[0].last) == pytest.approx((1.7976931348623157, 0.1))
    told("two", [3e29])
    (panel,) = panels(["two"], ["training_loss"], Looks())
    assert (panel.label, panel.curves[0].y) == ("training loss", [3e29])


def test_a_logarithmic_axis_without_anything_to_show_says_so(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    told("one", [-1.0, -2.0])
    draw(["one"], tmp_path / "x.svg", Looks(log=True))
    assert "nothing here is greater than 0" in (tmp_path / "x.svg").read_text()


@pytest.mark.parametrize(("losses", "ticks"), [([7.6, 6.0, 4.7], {"5", "6", "7"}), ([0.2, 30.0], {"0.1", "1", "10"})])
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(tmp_path: Path, losses: list[float], ticks: set[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    told("one", losses)
    draw(["one"], tmp_path / "x.svg", Looks(log=True))
    texts = {node.text or "" for node in ElementTree.parse(tmp_path / "x.svg").iter(f"{SVG}text")}
    assert len(ticks & texts) >= 2 and not any("$" in text for text in texts)


def test_a_metric_that_is_never_a_number(tmp_path: Path) -> None:
    told("one", [None, None])
    with pytest.raises(NotFoundError, match="no value of it is a finite number; they tell no number"):
        draw(["one"], tmp_path / "x.png", Looks())
    assert not list(tmp_path.glob("*.png"))


def test_very_many_runs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    jobs = [f"run{number}" for number in range(300)]
    for number, job in enumerate(jobs):
        told(job, [math.sin(number + step) for step in range(2000)])
    (panel,) = panels(jobs, ["training_loss"], Looks())
    assert sum(len(curve.x) for curve in panel.curves) <= 400_000
    draw(jobs, tmp_path / "x.svg", Looks())
    texts = [node.text for node in ElementTree.parse(tmp_path / "x.svg").iter(f"{SVG}text")]
    assert "300 curves" in texts and "run7" not in texts, "a legend of hundreds would leave no room for the curves"
    with pytest.raises(UsageError, match=r"300 curves.*200 at most"):
        draw(jobs, tmp_path / "x.html", Looks())
    assert not (tmp_path / "x.html").exists()


def test_each_rank_of_a_large_gang(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    name = "</script><b onclick=x>$a_{b}$&amp;"
    told("one", [3.0, 2.0], name, ranks=20)
    assert plot.write(["one"], [name], tmp_path / "x.svg", Looks(each_rank=True)) == 20
    texts = [node.text for node in ElementTree.parse(tmp_path / "x.svg").iter(f"{SVG}text")]
    assert name in texts and "one rank 19" in texts
    assert plot.write(["one"], [name], tmp_path / "x.html", Looks(each_rank=True)) == 20
    text = (tmp_path / "x.html").read_text()
    assert "<b onclick" not in text and text.count("</script>") == 3


def test_throughput_is_said_to_be_that_of_a_rank() -> None:
    """Figures tell the sum over the ranks; curves are their mean, or each."""
    assert plot.Panel("throughput_tokens_sec", "tokens/s", ()).label == "throughput of a rank (tokens/s)"


def test_of_many_numbers_those_like_the_one_that_is_meant_are_named(tmp_path: Path) -> None:
    told("one", [1.0])
    with JobPaths("one").metrics.open("a") as stream:
        values = {f"number_{at}": at for at in range(100)}
        stream.write(json.dumps({"attempt": 1, "rank": 0, "step": 2, **values, "accuracy": 1.0}) + "\n")
    for ask in (
        lambda: plot.write(["one"], ["acuracy"], tmp_path / "x.html", Looks()),
        lambda: series.open_job("one").told("acuracy"),
        lambda: results.load("one", columns=["acuracy"]),
    ):
        with pytest.raises(NotFoundError, match=r"accuracy.* and \d+ more") as caught:
            ask()
        assert len(str(caught.value)) < 500


def test_a_picture_of_ranks_names_the_job() -> None:
    told("one", [1.0, 2.0], ranks=2)
    (panel,) = panels(["one"], ["training_loss"], Looks(each_rank=True))
    assert [curve.name for curve in panel.curves] == ["one rank 0", "one rank 1"]


def test_a_job_has_one_place_in_all_charts() -> None:
    told("one", [1.0, 2.0])
    told("two", [1.0, 2.0], ranks=2)
    told("three", [1.0, 2.0], name="epoch")
    with JobPaths("two").metrics.open("a") as stream:
        stream.write('{"attempt": 1, "rank": 1, "step": 3, "epoch": 1.0}\n')
    first, second = panels(["one", "two", "three"], ["training_loss", "epoch"], Looks(each_rank=True))
    assert {curve.name: curve.place for curve in first.curves} == {"one rank 0": 0, "two rank 0": 1, "two rank 1": 2}
    assert {curve.name: curve.place for curve in second.curves} == {"two rank 1": 2, "three rank 0": 3}
