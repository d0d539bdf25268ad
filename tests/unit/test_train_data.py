"""Text becomes the same tokens, blocks and batches everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")

TRAIN = Path(__file__).parents[2] / "train"
sys.path.insert(0, str(TRAIN))
import data
import sources
from errors import WrongInput


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UGRO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def decoded(prepared: data.Prepared) -> str:
    tokenizer = tokenizers.Tokenizer.from_str(prepared.tokenizer)
    return tokenizer.decode(prepared.load().tolist(), skip_special_tokens=False)


def test_tokens_are_the_text(tmp_path):
    text = "Zwei Wörter, ein Satz.\n" * 50 + "日本語 \t tabs\n"
    (tmp_path / "a.txt").write_text(text)
    assert decoded(data.prepare(str(tmp_path / "a.txt"), 300)) == text + data.END_OF_TEXT


def test_a_large_file_is_read_in_pieces_and_stays_one_document(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_PIECE", 100)
    text = "".join(f"line {n} of the text\n" for n in range(200))
    (tmp_path / "a.txt").write_text(text)
    assert len(list(sources.find(str(tmp_path / "a.txt")).pieces())) > 10
    assert decoded(data.prepare(str(tmp_path / "a.txt"), 300)) == text + data.END_OF_TEXT


def test_json_lines_parquet_and_folders(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = tmp_path / "many"
    folder.mkdir()
    lines = [{"id": 1, "text": "first"}, {"content": "second"}, {"title": "third"}, "fourth"]
    (folder / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    parquet.write_table(pa.table({"n": [1, 2], "text": ["fifth", "sixth"]}), folder / "b.parquet")
    (folder / "ignored.bin").write_bytes(b"\0")
    pieces = [text for text, ends in sources.find(str(folder)).pieces() if ends]
    assert pieces == ["first", "second", "third", "fourth", "fifth", "sixth"]
    assert decoded(data.prepare(str(folder), 300)).count(data.END_OF_TEXT) == 6


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2 is not JSON"),
        ("a.jsonl", b'{"number": 1}\n', r"a\.jsonl:1 has no text"),
        ("a.txt", b"\xff\xfe\x00bad", "UTF-8"),
        ("a.txt", b"", "no text"),
        ("a.parquet", b"not parquet", "not a parquet file"),
        ("a.exe", b"x", "unknown ending"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongInput, match=message) as error:
        data.prepare(str(tmp_path / name), 300)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["python-dosc", "missing.txt", "/no/such/file.jsonl", "../x", "$(id)", ""])
def test_an_unknown_name_is_refused_at_once(name):
    with pytest.raises(WrongInput, match=r"unknown data set.*python-docs"):
        sources.find(name)


def test_an_unreachable_hub_is_told_in_seconds(monkeypatch):
    for variable in ("HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.delenv(variable, raising=False)
    code = f"import sys; sys.path.insert(0, {str(TRAIN)!r}); import sources; sources.find('wikitext')"
    # A port of this machine where nobody listens: no network is needed, or touched, to be without a hub.
    environment = {"PATH": "/usr/bin:/bin", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/nonexistent"}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert time.monotonic() - began < 20
    last = done.stderr.strip().splitlines()[-1]
    assert "data set 'wikitext'" in last and "hub cannot be reached" in last and "HF_HOME" in last


def test_the_second_time_comes_from_the_cache(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("some text " * 100)
    first = data.prepare(str(tmp_path / "a.txt"), 300)
    monkeypatch.setattr(data, "_tokenize", lambda *_: pytest.fail("tokenized again"))
    assert data.prepare(str(tmp_path / "a.txt"), 300) == first


def test_changed_text_is_prepared_anew_and_a_damaged_cache_is_replaced(tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 100)
    first = data.prepare(str(tmp_path / "a.txt"), 300)
    (first.folder / "tokens.bin").write_bytes(b"\0" * 8)
    assert data.prepare(str(tmp_path / "a.txt"), 300) == first
    assert (first.folder / "tokens.bin").stat().st_size == 4 * first.tokens
    (tmp_path / "a.txt").write_text("other text " * 100)
    assert data.prepare(str(tmp_path / "a.txt"), 300).fingerprint != first.fingerprint


def test_processes_that_prepare_at_once_get_the_same_whole_data_set(cache):
    code = (
        f"import sys; sys.path.insert(0, {str(TRAIN)!r}); import data;"
        "p = data.prepare('python-docs', 2048); print(p.fingerprint, len(p.load()))"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outcomes = {racer.communicate()[0] for racer in racers}
    assert len(outcomes) == 1 and all(racer.returncode == 0 for racer in racers)
    assert len(list((cache / "data").iterdir())) == 1  # no temporary folder stays


def test_a_given_tokenizer_is_used(tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 100)
    (tmp_path / "b.txt").write_text("quite another thing")
    first = data.prepare(str(tmp_path / "a.txt"), 300)
    second = data.prepare(str(tmp_path / "b.txt"), 300, (first.tokenizer, first.end))
    assert second.tokenizer == first.tokenizer
    assert decoded(second) == "quite another thing" + data.END_OF_TEXT


def test_blocks_are_the_tokens_in_order_and_the_end_is_held_out():
    tokens = torch.arange(1003, dtype=torch.int32)
    train, held_out = data.split(tokens, 10)
    assert (len(train), len(held_out)) == (95, 5)
    assert torch.cat([*train, *held_out]).tolist() == list(range(1000))
    assert train[0].dtype == torch.long


def test_a_text_shorter_than_one_sequence_is_refused():
    with pytest.raises(WrongInput, match="smaller --seq-len"):
        data.split(torch.arange(9, dtype=torch.int32), 10)


def batches(rank: int = 0, world: int = 1, blocks: int = 100, **more: int) -> data.Batches:
    values = {"batch_size": 4, "accumulation": 2, "seed": 1, **more}
    return data.Batches(blocks=blocks, rank=rank, world=world, **values)


def test_ranks_share_an_epoch_without_overlap_and_epochs_differ():
    seen = [i for rank in range(3) for batch in batches(rank, 3).of_epoch(0, 0) for i in batch]
    assert len(seen) == len(set(seen)) == 96
    assert batches(0, 3).steps_left(0) == 4
    orders = [list(batches(0, 3).of_epoch(epoch, 0)) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != list(batches(0, 3, seed=2).of_epoch(0, 0))


def test_a_position_continues_the_same_order_even_with_another_number_of_ranks():
    def used_by_all(world: int, used: int) -> list[int]:
        passes = zip(*(batches(rank, world).of_epoch(0, used) for rank in range(world)), strict=True)
        return [i for one in passes for batch in one for i in batch]

    whole = used_by_all(1, 0)
    assert used_by_all(1, 48) == whole[48:]
    assert used_by_all(3, 48) == whole[48:]


def test_an_epoch_with_less_than_a_step_left_gives_way_to_the_next():
    larger = batches(0, 3)  # 24 blocks a step
    assert [larger.position(1, used) for used in (0, 48, 76)] == [(1, 0), (1, 48), (1, 76)]
    assert [larger.position(1, used) for used in (77, 100, 120)] == [(2, 0)] * 3  # 120: the data set has shrunk
    assert batches(0, 2, blocks=5).position(0, 4) == (1, 0)
    assert batches(0, 2, blocks=5).position(1, 0) == (1, 0)  # smaller than a step: it repeats


def test_a_data_set_smaller_than_a_step_repeats_for_one_step():
    small = batches(0, 2, blocks=5)
    assert small.steps_left(0) == 1 and small.steps_left(16) == 0
    flat = [i for batch in small.of_epoch(0, 0) for i in batch]
    assert len(flat) == 8 and set(flat) <= set(range(5))
