"""Models by name, options, and what a rank reports."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TRAIN = Path(__file__).parents[2] / "train"
sys.path.insert(0, str(TRAIN))
import model as models
import options
import telemetry
from errors import WrongInput
from stopwatch import StepTimes

# Billions of parameters, as published for the families these presets follow.
SIZES = {
    "tiny-llama": 0.00107,
    "llama-160m": 0.162,
    "llama-1b": 1.24,
    "llama-3b": 3.21,
    "llama-7b": 6.74,
    "llama-8b": 8.03,
    "llama-13b": 13.02,
    "llama-70b": 68.98,
}


@pytest.mark.parametrize("name", models.PRESETS)
def test_presets_have_the_published_sizes(name):
    from transformers.models.llama import LlamaForCausalLM

    with torch.device("meta"):
        parameters = sum(p.numel() for p in LlamaForCausalLM(models.config_of(name, 128)).parameters())
    assert parameters / 1e9 == pytest.approx(SIZES[name], rel=0.01)


def test_llama_3_presets_have_their_rope_base():
    config = models.config_of("llama-8b", 128).to_dict()
    assert 500000.0 in (config.get("rope_theta"), (config.get("rope_parameters") or {}).get("rope_theta"))


@pytest.mark.parametrize("name", ["tiny-lama", "gpt2", "../x", "/no/such", "a/b/c", "a;rm -rf", "{{x}}", ""])
def test_an_unknown_model_is_one_line_with_the_presets(name):
    with pytest.raises(WrongInput, match=r"unknown model.*presets: tiny-llama.*llama-70b") as error:
        models.preset(name)
    assert "\n" not in str(error.value) and error.value.exit_code == 2


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(WrongInput, match=r"no config\.json"):
        models.preset(str(tmp_path))


def test_a_model_too_large_for_the_machine_is_refused_before_it_is_built(monkeypatch):
    monkeypatch.setattr(models, "_available_memory", lambda: 8 << 30)
    with pytest.raises(WrongInput, match=r"6\.7 billion parameters.*this node has 8 GB"):
        models.build("llama-7b", 128, torch.device("cpu"), 1)


def test_a_local_folder_trains_with_its_own_tokenizer(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers import models as bpe
    from transformers import PreTrainedTokenizerFast

    built = models.build("tiny-llama", 64, torch.device("cpu"), 1)
    built.save_pretrained(tmp_path)
    raw = Tokenizer(bpe.WordLevel({"</s>": 0, "hello": 1}, unk_token="</s>"))
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>").save_pretrained(tmp_path)
    text, end = models.tokenizer_of(str(tmp_path))
    assert end == "</s>" and Tokenizer.from_str(text).token_to_id("hello") == 1
    again = models.build(str(tmp_path), 64, torch.device("cpu"), 1)
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), again.parameters(), strict=True))


def test_a_hub_model_without_a_hub_is_told_in_one_line():
    code = (
        f"import sys; sys.path.insert(0, {str(TRAIN)!r}); import model, torch;"
        "model.build('owner/name', 64, torch.device('cpu'), 1)"
    )
    environment = {"PATH": "/usr/bin:/bin", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert "model 'owner/name'" in last and "hub cannot be reached" in last and "HF_HOME" in last


def test_the_names_of_the_seed_and_their_short_forms():
    long = ["--model-name", "llama-7b", "--dataset-name", "wikitext", "--num-epochs", "2", "--job-id", "j"]
    short = ["--model", "llama-7b", "--dataset", "wikitext", "--epochs", "2", "--job-id", "j"]
    assert options.parse(long, "") == options.parse(short, "")
    assert options.parse(["--resume"], "").resume == "auto"


@pytest.mark.parametrize(
    "argv",
    [["--num-epochs", "0"], ["--batch-size", "-1"], ["--learning-rate", "nan"], ["--seq-len", "x"], ["--amp", "int8"]],
)
def test_a_number_out_of_range_is_refused(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        options.parse(argv, "")
    assert stopped.value.code == 2 and argv[0] in capsys.readouterr().err


def test_metrics_lines_have_the_fields_of_the_seed_and_no_nan(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UGRO_METRICS_FILE", str(tmp_path / "metrics" / "rank_1.jsonl"))
    monkeypatch.delenv("UGRO_TENSORBOARD_DIR", raising=False)
    ranks = SimpleNamespace(rank=1, world=2, is_main=False, device=torch.device("cpu"))
    reporter = telemetry.Telemetry("job_1", ranks, log_every=1)
    for step, loss in ((1, 4.25), (2, float("nan"))):
        times = StepTimes(step=0.5, data=0.125, wait=0.25, cpu=0.75)
        reporter.step(
            step=step, total=2, epoch=1, loss=loss, norm=2.5, rate=1e-3, tokens=64, times=times, gradient_bytes=4096
        )
    reporter.close()
    first, second = map(json.loads, (tmp_path / "metrics" / "rank_1.jsonl").read_text().splitlines())
    stamp = first.pop("timestamp")
    assert len(stamp) == 20 and stamp.endswith("Z")
    assert first == {
        "job_id": "job_1", "rank": 1, "step": 1, "gpu_util": None, "gpu_mem_used_gb": None,
        "training_loss": 4.25, "throughput_tokens_sec": 128.0, "gradient_norm": 2.5, "learning_rate": 1e-3,
        "epoch": 1, "total_steps": 2,
        "step_time_s": 0.5, "data_time_s": 0.125, "wait_time_s": 0.25, "cpu_time_s": 0.75, "gradient_bytes": 4096,
    }  # fmt: skip
    assert second["training_loss"] is None
    assert "gradient_bytes" not in second  # it stays the same
    assert capsys.readouterr().out == ""  # rank 0 speaks


def test_tensorboard_events_can_be_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = telemetry.TensorBoard(tmp_path)
    board.scalar("train/training_loss", 2.5, 1)
    board.scalar("train/gpu_util", None, 1)
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/training_loss")] == [(1, 2.5)]
    assert events.Tags()["scalars"] == ["train/training_loss"]


def test_a_job_id_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("UGRO_JOB_ID", "job_7")
    assert isinstance(options.parse([], ""), argparse.Namespace) and options.parse([], "").job_id == "job_7"
