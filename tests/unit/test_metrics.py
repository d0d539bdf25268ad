"""metrics.jsonl: derived from the copies of the nodes' events, at once or while they grow."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.job_folder import paths  # noqa: F401 - a fixture
from ugro_py import metrics
from ugro_py.errors import StateError
from ugro_py.paths import JobPaths


def event(t: float, rank: int, step: int, **values: object) -> bytes:
    line = {"t": t, "kind": "metrics", "rank": rank, "step": step, "training_loss": 9.0 - step, **values}
    return json.dumps(line).encode() + b"\n"


def add(paths: JobPaths, attempt: int, node: str, data: bytes) -> None:
    path = paths.node_events(attempt, node)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(data)


def test_lines_have_the_fields_of_the_seed_and_are_in_order(paths: JobPaths) -> None:
    add(paths, 2, "gpu1", event(50, 1, 3))
    add(paths, 10, "gpu1", event(1, 1, 9))
    add(paths, 1, "gpu1", b'{"t": 1, "kind": "supervisor_started"}\n' + event(1, 1, 1) + event(3, 1, 2))
    add(paths, 1, "gpu-master", event(2, 0, 1, timestamp="2026-01-20T12:05:30Z", epoch=0.5) + event(3, 0, 2))
    assert metrics.rebuild(paths) == 6
    lines = list(metrics.read(paths))
    assert [(line["attempt"], line["rank"], line["step"]) for line in lines] == [
        (1, 1, 1), (1, 0, 1), (1, 0, 2), (1, 1, 2), (2, 1, 3), (10, 1, 9),
    ]  # fmt: skip
    assert lines[0] == {
        "timestamp": "1970-01-01T00:00:01Z", "job_id": "job_1", "attempt": 1, "rank": 1, "step": 1, "gpu_util": None,
        "gpu_mem_used_gb": None, "training_loss": 8.0, "throughput_tokens_sec": None, "gradient_norm": None,
        "learning_rate": None,
    }  # fmt: skip
    assert lines[1]["timestamp"] == "2026-01-20T12:05:30Z"
    assert lines[1]["epoch"] == 0.5
    assert not list(paths.root.glob(".*"))


def test_broken_events_are_left_out(paths: JobPaths) -> None:
    broken = (
        b'{"t": 1, "kind": "metrics", "rank": 0, "training_loss": 1e999}\n'
        b'{"t": 1e300, "kind": "metrics", "rank": 0}\n{"t": "x", "kind": "metrics", "rank": 0}\n'
        b'{"t": 1, "kind": "metrics"}\n{"kind": "metrics\n\xff\x00"metrics"\n["metrics"]\n\n'
    )
    add(paths, 1, "gpu1", broken + event(1, 0, 1) + event(2, 0, 2)[:-9])
    assert metrics.rebuild(paths) == 1
    assert [line["step"] for line in metrics.read(paths)] == [1]


def test_reading_tolerates_a_broken_last_line(paths: JobPaths) -> None:
    assert list(metrics.read(paths)) == []
    paths.metrics.write_bytes(b'{"step": 1}\n[3]\n{"step": 2, "rank')
    assert list(metrics.read(paths)) == [{"step": 1}]


def test_no_events_give_an_empty_file(paths: JobPaths) -> None:
    assert metrics.rebuild(paths) == 0
    assert paths.metrics.read_bytes() == b""


def test_a_store_that_cannot_be_used_is_said_so(paths: JobPaths) -> None:
    paths.metrics.mkdir()
    with pytest.raises(StateError, match=r"metrics.jsonl: derive it from the events: .*Is a directory"):
        metrics.rebuild(paths)
    with pytest.raises(StateError, match="No such file"):
        metrics.rebuild(JobPaths("job_2"))


pieces = st.tuples(st.integers(0, 2), st.integers(1, 400), st.sampled_from(["poll", "wait", "rebuild", "restart"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(pieces, max_size=25))
def test_appending_gives_the_lines_of_a_rebuild(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int, str]]
) -> None:
    """Whatever the pieces in which the events arrive, and whoever else rebuilds or restarts in between."""
    files = [(1, "gpu1"), (1, "gpu2"), (2, "gpu1")]
    streams = [b"".join(event(n * 2 + i, i, n) for n in range(6)) for i in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UGRO_DATA", str(tmp_path_factory.mktemp("data")))
        paths = JobPaths("job_1")
        paths.root.mkdir(parents=True)
        appender, seen = metrics.Appender(paths), []
        for file, size, step in [*moves, (0, 9999, "wait"), (1, 9999, "wait"), (2, 9999, "poll")]:
            add(paths, *files[file], streams[file][:size])
            streams[file] = streams[file][size:]
            if step == "rebuild":
                metrics.rebuild(paths)
            elif step != "wait":
                seen += appender.poll()
            if step == "restart":
                appender = metrics.Appender(paths)
                appender.poll()
        appended = paths.metrics.read_bytes().splitlines()
        assert metrics.rebuild(paths) == 18
        assert sorted(appended) == sorted(paths.metrics.read_bytes().splitlines())
        assert len({(line["attempt"], line["rank"], line["step"]) for line in seen}) == len(seen) == 18


def test_a_copy_that_shrank_starts_again(paths: JobPaths) -> None:
    appender = metrics.Appender(paths)
    add(paths, 1, "gpu1", event(1, 0, 1) + event(2, 0, 2))
    assert len(appender.poll()) == 2
    paths.node_events(1, "gpu1").write_bytes(event(5, 0, 7))
    appender.poll()
    assert [line["step"] for line in metrics.read(paths)] == [7]


def test_two_processes_do_not_lose_or_double_lines(paths: JobPaths) -> None:
    appender = metrics.Appender(paths)
    stop = threading.Event()

    def keep_rebuilding() -> None:
        while not stop.is_set():
            metrics.rebuild(paths)

    other = threading.Thread(target=keep_rebuilding)
    other.start()
    try:
        for step in range(300):
            add(paths, 1, "gpu1", event(step, 0, step))
            appender.poll()
    finally:
        stop.set()
        other.join()
    appender.poll()
    assert [line["step"] for line in metrics.read(paths)] == list(range(300))
