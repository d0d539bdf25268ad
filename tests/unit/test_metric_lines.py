"""Metrics out of what scripts print: the usual forms, what is none of them, and any bytes at all."""

from __future__ import annotations

import io
import json
import time

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils.metric_lines import MetricParser
from hypothesis import given, settings
from hypothesis import strategies as st


def losses(lines: list[str], parser: MetricParser | None = None) -> list[tuple[int, float | None]]:
    parser = parser or MetricParser(0)
    found = [parser.feed_log(line) for line in lines]
    return [(metrics["step"], metrics["training_loss"]) for metrics in found if metrics]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Hugging Face Trainer, older and newer
        (
            "{'loss': 2.31, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.5}",
            {"training_loss": 2.31, "gradient_norm": 1.2, "learning_rate": 5e-05, "epoch": 0.5, "step": 1},
        ),
        (
            "{'loss': '2.31', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '0.5'}",
            {"training_loss": 2.31, "gradient_norm": 1.2, "learning_rate": 5e-05, "epoch": 0.5, "step": 1},
        ),
        # Lightning
        (
            "Epoch 0:  50%|█████     | 10/20 [00:01<00:01,  8.1it/s, v_num=0, train_loss=2.1]",
            {"training_loss": 2.1, "epoch": 0, "step": 10},
        ),
        (
            "Epoch 2:  50%|█████     | 10/20 [00:01<00:01, 8it/s, train_loss_step=2.1, train_loss_epoch=9.0]",
            {"training_loss": 2.1, "epoch": 2, "step": 50},
        ),
        # tqdm in a loop of one's own
        (
            "Epoch 1/3:  50%|█████     | 10/20 [00:01<00:01,  8.1it/s, loss=2.1, lr=1e-4]",
            {"training_loss": 2.1, "epoch": 1, "step": 10, "total_steps": 60, "learning_rate": 1e-4},
        ),
        # text
        ("loss=2.31", {"training_loss": 2.31, "step": 1}),
        ("loss: 2.31", {"training_loss": 2.31, "step": 1}),
        ("Loss 2.31", {"training_loss": 2.31, "step": 1}),
        ("LOSS = 3", {"training_loss": 3, "step": 1}),
        ("step 10 | loss 3.2", {"training_loss": 3.2, "step": 10}),
        ("train loss 3.2", {"training_loss": 3.2, "step": 1}),
        ("train_loss=3.2 val_loss=9.9", {"training_loss": 3.2, "step": 1}),
        ("step 0: train loss 4.2053, val loss 4.3012", {"training_loss": 4.2053, "step": 0}),
        ("iter 10: loss 10.9001, time 100.00ms, mfu 1.2%", {"training_loss": 10.9001, "step": 10}),
        (
            "Epoch [2/5], Step [100/600], Loss: 0.3412",
            {"training_loss": 0.3412, "epoch": 2, "step": 100},
        ),
        (
            "Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.313014",
            {"training_loss": 2.313014, "epoch": 1, "step": 1},
        ),
        ("[1,  2000] loss: 2.187", {"training_loss": 2.187, "step": 1}),
        ("loss: 2.300524  [   64/60000]", {"training_loss": 2.300524, "step": 1}),
        (
            "step:  7  loss:  8.1234  grad_norm:  1.5  memory: 1.2GiB(3%)  tps: 3,250  tflops: 7.1  mfu: 2%",
            {"training_loss": 8.1234, "gradient_norm": 1.5, "throughput_tokens_sec": 3250, "step": 7},
        ),
        (
            " iteration       10/     100 | learning rate: 1.5E-04 | lm loss: 1.034E+01 | grad norm: 1.2 |",
            {
                "training_loss": 10.34,
                "learning_rate": 1.5e-4,
                "gradient_norm": 1.2,
                "step": 10,
                "total_steps": 100,
            },
        ),
        (
            "step 3 loss 2.0 | 12.5k tokens/s",
            {"training_loss": 2.0, "throughput_tokens_sec": 12500, "step": 3},
        ),
        ("step 1,200 of nothing, loss 2.0", {"training_loss": 2.0, "step": 1}),
        ("loss tensor(2.5, device='cuda:0')", {"training_loss": 2.5, "step": 1}),
        ("[default0]:INFO step=4 loss=2.5", {"training_loss": 2.5, "step": 4}),
        ("\x1b[32mstep 5\x1b[0m \x1b[1mloss\x1b[0m=\x1b[31m1.5\x1b[0m", {"training_loss": 1.5, "step": 5}),
        # JSON
        ('{"step": 10, "training_loss": 3.2}', {"training_loss": 3.2, "step": 10}),
        ('INFO {"loss": 3.2, "lr": 0.1}', {"training_loss": 3.2, "learning_rate": 0.1, "step": 1}),
        ('{"level": "info", "msg": "step 3 loss 3.2"}', {"training_loss": 3.2, "step": 3}),
        # numbers that are none
        ("step 3 loss nan", {"training_loss": None, "nonfinite": ["training_loss"], "step": 3}),
        (
            "{'loss': inf, 'grad_norm': nan}",
            {
                "training_loss": None,
                "gradient_norm": None,
                "nonfinite": ["training_loss", "gradient_norm"],
                "step": 1,
            },
        ),
    ],
)
def test_usual_forms(line: str, expected: dict) -> None:
    metrics = MetricParser(3).feed_log(line)
    assert metrics is not None
    assert {key: set(v) if isinstance(v, list) else v for key, v in metrics.items()} == {
        **{key: set(v) if isinstance(v, list) else v for key, v in expected.items()},
        "rank": 3,
    }
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "across the board 3",
        "val_loss=3.2",
        "val/loss: 3.2",
        "validation loss: 3.2",
        "eval loss 3.2",
        "train/val_loss=3",
        "{'eval_loss': 2.0, 'epoch': 1.0}",
        "{'train_runtime': 12.3, 'train_samples_per_second': 9.1, 'train_loss': 2.1, 'epoch': 1.0}",
        '{"val_loss": 2.0, "msg": "training loss unknown"}',
        "10 packets sent, packet loss 0%",
        "packet loss: 3",
        "loss of 3 packets",
        "the loss 3 weeks ago",
        "loss_scale: 65536",
        "best loss 1.2",
        "--loss 3.2",
        "gloss 3.2",
        "loss information",
        "loss: n/a",
        "Validating: 50%|█████     | 10/20 [00:01<00:01,  8.1it/s, loss=2.1]",
    ],
)
def test_what_is_no_training_loss(line: str) -> None:
    assert MetricParser(0).feed_log(line) is None


def test_steps_are_counted_where_the_line_has_none() -> None:
    assert losses(["loss=3.0", "hello", "loss=2.0"]) == [(1, 3.0), (2, 2.0)]


def test_steps_of_an_epoch_become_steps_of_the_run() -> None:
    lines = [f"Epoch [{e}/2], Step [{s}/3], Loss: {9 - s - e}.0" for e in (1, 2) for s in (1, 2, 3)]
    assert [step for step, _ in losses(lines)] == [1, 2, 3, 4, 5, 6]


def test_steps_of_an_epoch_may_count_from_zero() -> None:
    lines = [f"epoch {e} step {s} loss 1.5" for e in (0, 1, 2) for s in (0, 1, 2)]
    assert [step for step, _ in losses(lines)] == list(range(9))


def test_steps_of_the_run_are_left_alone() -> None:
    lines = [f"epoch {1 + s // 3} step {s} loss {9 - s}.0" for s in range(7)]
    assert [step for step, _ in losses(lines)] == list(range(7))


def test_lightning_updates_the_loss_after_the_bar() -> None:
    """Its real order: the bar is moved and drawn with the old loss, then drawn with the new one."""
    shown, lines = "", []
    values = ["3.0", "2.0", "2.0", "1.0"]
    for epoch in (0, 1):
        lines.append(f"Epoch {epoch}:   0%|          | 0/4 [00:00<?, ?it/s, v_num=0{shown}]")
        for n, value in enumerate(values, 1):
            for text in (shown, f", train_loss={value}"):
                lines.append(f"Epoch {epoch}:  50%|##        | {n}/4 [00:00<00:00, 9.1it/s, v_num=0{text}]")
            shown = f", train_loss={value}"
        lines.append(lines[-1])
    expected = [(n, float(value)) for n, value in enumerate(values * 2, 1)]
    assert losses(lines) == expected
    assert losses(["\r".join(lines)]) == expected[-1:]


def test_bars_without_a_total_start_again_with_each_epoch() -> None:
    lines = [f"Epoch {e}: |          | {n}/? [00:00<?, loss={9 - 3 * e - n}.5]" for e in (0, 1) for n in (1, 2)]
    assert [step for step, _ in losses(lines)] == [1, 2, 3, 4]


def test_real_tqdm_bars() -> None:
    from tqdm import tqdm

    out = io.StringIO()
    with tqdm(total=5, file=out, mininterval=0, ncols=100, desc="Epoch 0") as bar:
        for step in range(1, 6):
            bar.update(1)
            bar.set_postfix(train_loss=10 - step)
    assert losses(out.getvalue().split("\r")) == [(step, 10 - step) for step in range(1, 6)]


def test_the_bar_of_trainer_tells_the_step() -> None:
    """Trainer prints dicts without a step beside a nameless bar; the bar of an evaluation is another one."""
    lines = [
        "Map: 100%|##########| 999/999 [00:00<00:00, 9 examples/s]",
        "  5%|5         | 10/200 [00:01<00:19, 10.0it/s]",
        "{'loss': '3.1', 'epoch': '0.5'}",
        " 10%|#         | 20/200 [00:02<00:18, 10.0it/s]",
        "{'loss': '3.0', 'epoch': '1'}",
        " 40%|####      | 40/100 [00:02<00:18, 10.0it/s]",
        "{'eval_loss': '2.0', 'epoch': '1'}",
        " 15%|#5        | 30/200 [00:03<00:17, 10.0it/s]",
        "{'loss': '2.9', 'epoch': '1.5'}",
    ]
    parser = MetricParser(0)
    assert losses(lines, parser) == [(10, 3.1), (20, 3.0), (30, 2.9)]
    assert parser.feed_log("{'loss': '2.8'}") == {
        "rank": 0, "step": 31, "training_loss": 2.8, "total_steps": 200,
    }  # fmt: skip


pieces = st.sampled_from(
    [
        "loss", "Loss", "train", "val", " ", "=", ":", "{", "}", "'", '"', "1", "2.5", "nan", "inf", "1e999",
        "-",
        "|",
        "%|##| 10/20 [", "]", "\r", "\x1b[", "m", "step", "epoch", "/", "[", ",", "\\", "tok/s", "9" * 400,
        "\u0661", "\ud800",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.lists(pieces, max_size=30).map("".join), st.text()), max_size=8))
def test_nothing_ever_raises_and_everything_is_json(lines: list[str]) -> None:
    parser = MetricParser(0)
    for line in lines:
        for feed in (parser.feed_log, parser.feed_metrics, parser.feed_log):
            metrics = feed(line)
            if metrics is not None:
                json.dumps(metrics, allow_nan=False)
                assert metrics["step"] >= 0
                assert metrics["rank"] == 0


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["loss", "step", "epoch", "lr", "x", "timestamp", "gpu_util"]),
        st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans(), st.lists(st.integers())),
    )
)
def test_any_object_is_validated(values: dict) -> None:
    metrics = MetricParser(0).feed_metrics(json.dumps(values))
    if metrics is not None:
        json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    "unit",
    ["loss ", "x", "| ", "{", "'a': ", "loss=", "1,", "\r", "\x1b[", "9", "epoch 1/", "loss 1\r", "train "],
)
def test_long_lines_are_cheap(unit: str) -> None:
    for size in (60_000, 10_000_000):
        line = unit * (size // len(unit))
        start = time.perf_counter()
        MetricParser(0).feed_log(line)
        MetricParser(0).feed_metrics(line)
        MetricParser(0).feed_metrics('{"loss": "' + line)
        assert time.perf_counter() - start < 20.0
