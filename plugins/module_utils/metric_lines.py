# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Losses and other metrics out of the lines a training script prints.

A script that was not written for UGRO prints its progress in one of a few usual forms, and `MetricParser`
knows them:

- Hugging Face Trainer: ``{'loss': 2.31, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.5}``
- progress bars of Lightning and tqdm: ``Epoch 0:  50%|##  | 10/20 [00:01<00:01, train_loss=2.1]``
- text: ``loss=2.31``, ``loss: 2.31``, ``step 10 | loss 3.2``, ``step 10: train loss 3.2, val loss 3.4``
- JSON: ``{"step": 10, "training_loss": 3.2}``

A script that knows UGRO writes JSON lines to ``UGRO_METRICS_FILE`` instead, with the seed's fields.
Nothing here raises on any input, and the time is linear in the length of a line.
"""

from __future__ import annotations

import json
import math
import re

# Longer lines are not metrics: a dump of a tensor, say. Only the end of a line of many bar updates matters.
LONGEST_LINE = 65536
# A metrics file may hold keys of its own; this many numbers are kept beside the known ones, as many as have columns.
MOST_OTHER_KEYS = 256

# What a key of a dict or a JSON object means; keys are compared in lower case, the first one wins.
_SYNONYMS = """
training_loss: training_loss train_loss loss train/loss training/loss train_loss_step loss_step lm_loss
gradient_norm: gradient_norm grad_norm gradnorm gnorm train/grad_norm
learning_rate: learning_rate lr train/learning_rate
throughput_tokens_sec: throughput_tokens_sec tokens_per_second tokens_per_sec tokens/s tokens/sec tok/s tps
step: step global_step iteration iter current_steps train/global_step
total_steps: total_steps max_steps
epoch: epoch train/epoch
gpu_util: gpu_util
gpu_mem_used_gb: gpu_mem_used_gb
"""
SYNONYMS = {key: names.split() for key, names in (line.split(":") for line in _SYNONYMS.strip().splitlines())}
_KNOWN = frozenset(name for names in SYNONYMS.values() for name in names)
_COUNTS = ("step", "total_steps")

_NUMBER = r"([-+]?(?:nan|inf(?:inity)?|(?:\d{1,20}(?:,\d{3}){0,6}(?:\.\d{0,40})?|\.\d{1,40})(?:e[-+]?\d{1,4})?))"
_GAP = r"['\"]?[ \t]{0,4}[:=]?[ \t]{0,12}['\"]?(?:tensor\()?"
_COUNT = r"['\"]?[ \t]{0,4}[:=#]?[ \t]{0,12}\[?[ \t]{0,4}(\d{1,15})"
_OF = r"(?:[ \t]{0,6}(?:/|of)[ \t]{0,12}(\d{1,15}))?(?![\w%])"


def _pattern(text: str) -> re.Pattern:
    for name, part in (("NUMBER", _NUMBER), ("GAP", _GAP), ("COUNT", _COUNT), ("OF", _OF)):
        text = text.replace(name, part)
    return re.compile(text, re.IGNORECASE)


# Each pattern starts with a word and has bounded repeats, so that searching is linear.
_LOSS = _pattern(r"loss(?:[_/]step)?(GAP)NUMBER(?![\w%])")
_LEARNING_RATE = _pattern(r"(?<![a-z])(?:learning[ _]rate|lr)GAPNUMBER")
_GRADIENT_NORM = _pattern(r"(?<![a-z])(?:grad(?:ient)?[ _.]?norm|gnorm)GAPNUMBER")
_TOKENS_AFTER = _pattern(r"(?<![a-z])(?:tok(?:en)?s?(?:/|_per_)s(?:ec(?:ond)?)?|tps)GAPNUMBER(k?)")
_TOKENS_BEFORE = _pattern(r"(?<![\w.,])NUMBER[ \t]{0,4}(k?)[ \t]{0,4}tok(?:en)?s?(?:/| per )s")
_STEP = _pattern(r"(?<![a-z])(?:global_step|step|iteration|iter)COUNTOF")
_EPOCH = _pattern(r"(?<![a-z])epochCOUNT(\.\d{1,12})?OF")
_PAIR = _pattern(r"['\"]([\w/ .-]{1,64})['\"][ \t]{0,4}:[ \t]{0,4}(?:tensor\()?['\"]?NUMBER(?![\w%])")
_BAR = re.compile(r"\| {0,8}(\d{1,15})/(\d{1,15}|\?) \[")
_NO_NAME = re.compile(r"\s*(?:\d{1,3}%)?")
_WORD_BEFORE = re.compile(r"([a-z]{0,16})([ _/.-]{0,2})$")
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)|[@-Z\\^_])")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?")
_LOSS_WORDS = frozenset("train training lm batch avg average mean total step running current ce".split())
_NOT_TRAINING = frozenset("val valid validation validating eval evaluating evaluation test dev".split())
_NOT_LOSS = _NOT_TRAINING | frozenset("best min lowest packet packets data aux scale".split())


class MetricParser:
    """Turns lines of one rank into metrics; remembers what it needs to number the steps.

    The dictionaries it returns hold `rank`, `step` and those of `training_loss`, `gradient_norm`,
    `learning_rate`, `throughput_tokens_sec` (tokens/s), `epoch` and `total_steps` which the line tells.
    A NaN or an infinity becomes None, and `nonfinite` lists its key.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self._own_metrics = False
        self._step = 0
        self._raw_step = -1
        self._offset = 0
        self._epoch = 0.0
        self._first_epoch: int | None = None
        self._trainer_bar: tuple[int, int] | None = None
        self._bar_loss = ""
        self._bar_waits = -1

    def feed_log(self, line: str) -> dict | None:
        """Return the metrics a line of the rank's output tells, or None.

        Once the script has written a metrics line of its own, what it prints is not counted again.
        """
        if self._own_metrics or not ("oss" in line or "OSS" in line or "|" in line):
            return None
        if len(line) > LONGEST_LINE:
            line = line[-LONGEST_LINE:].partition("\r")[2]  # only a progress bar's line may be long
        found = None
        for part in line.replace("\n", "\r").split("\r"):
            if part:
                found = self._part(_ANSI.sub("", part) if "\x1b" in part else part) or found
        return found

    def feed_metrics(self, line: str) -> dict | None:
        """Return a line of the script's own metrics file, validated, or None if it is broken or empty.

        Known keys and their usual synonyms get their standard name, other finite numbers are passed through.
        """
        values = _json_object(line.strip())
        if values is None:
            return None
        metrics, seen = self._known(values)
        others = [key for key in values if key not in seen and _is_number_of_its_own(key, values[key])]
        for key in others[:MOST_OTHER_KEYS]:
            self._put(metrics, key, values[key])
        if not metrics.keys() - {"step", "total_steps", "epoch", "nonfinite"} or _is_misnumbered(values, metrics):
            return None
        moment = values.get("timestamp")
        if isinstance(moment, str) and _TIME.fullmatch(moment):
            metrics["timestamp"] = moment
        self._own_metrics = True
        return self._numbered(metrics)

    def _part(self, text: str) -> dict | None:
        progress = _BAR.search(text) if "|" in text else None
        head = text[: max(0, text.rfind("|", 0, progress.start()))] if progress else ""
        if "oss" not in text and "OSS" not in text:
            if progress and progress[2] != "?" and _NO_NAME.fullmatch(head):
                # The bar of Trainer tells the step that its dicts lack; the bar of an evaluation does not.
                known = self._trainer_bar
                if known is None or known[1] == int(progress[2]) or known[0] >= known[1]:
                    self._trainer_bar = (int(progress[1]), int(progress[2]))
            return None
        start, end = text.find("{"), text.rfind("}")
        if 0 <= start < end:
            values = _json_object(text[start : end + 1]) or dict(_PAIR.findall(text[start : end + 1]))
            if any("loss" in key.lower() for key in values):
                return self._from_object(values)
        return self._from_text(text, progress, head)

    def _from_object(self, values: dict) -> dict | None:
        # Trainer ends with a summary whose train_loss is the mean of the run: no point of the curve.
        if "train_runtime" in values:
            return None
        metrics, dummy = self._known(values)
        return self._numbered(metrics) if "training_loss" in metrics and not _is_misnumbered(values, metrics) else None

    def _from_text(self, text: str, progress: re.Match | None, head: str) -> dict | None:
        step, epoch = _STEP.search(text), _EPOCH.search(text)
        loss = next((m for m in _LOSS.finditer(text) if _is_training_loss(m, text, bool(step))), None)
        if loss is None:
            return None
        metrics: dict = {}
        self._put(metrics, "training_loss", loss[2])
        for key, pattern in (("learning_rate", _LEARNING_RATE), ("gradient_norm", _GRADIENT_NORM)):
            match = pattern.search(text)
            if match:
                self._put(metrics, key, match[1])
        tokens = _TOKENS_AFTER.search(text) or _TOKENS_BEFORE.search(text)
        rate = _number(tokens[1]) if tokens else None
        if tokens and rate is not None:
            self._put(metrics, "throughput_tokens_sec", rate * 1000 if tokens[2] else rate)
        if epoch:
            self._put(metrics, "epoch", epoch[1] + (epoch[2] or ""))
        if progress:
            if _NOT_TRAINING.intersection(re.split(r"[^a-z]+", head[-200:].lower())):
                return None
            epochs = int(epoch[3]) if epoch and epoch[3] else None
            return self._from_bar(metrics, progress, epochs, loss[2])
        if step:
            self._put(metrics, "step", step[1])
            if step[2] and not (epoch and epoch[3]):  # "Epoch [2/5], Step [1/600]" may be 600 of 3000
                self._put(metrics, "total_steps", step[2])
        return self._numbered(metrics)

    def _from_bar(self, metrics: dict, progress: re.Match, epochs: int | None, loss: str) -> dict | None:
        """A bar counts within an epoch; the step is counted over the whole run."""
        raw = int(progress[1])
        total = int(progress[2]) if progress[2] != "?" else None
        epoch = metrics.get("epoch")
        if epoch is not None and total is not None:
            if self._first_epoch is None:
                self._first_epoch = 1 if epoch == 1 else 0  # people count from 1, Lightning from 0
            raw += max(0, int(epoch) - self._first_epoch) * total
            if epochs is not None:
                metrics["total_steps"] = epochs * total
        if raw < self._raw_step:
            if raw == 0 or loss == self._bar_loss:
                return None
            self._offset = self._step  # a new bar without an epoch's number
            self._raw_step = 0
        # A bar is drawn again and again. Lightning moves it first and updates the loss after that: the first
        # drawing of a step still shows the loss of the step before it, and only the second one counts.
        if raw in (0, self._raw_step):
            return None
        if loss == self._bar_loss and raw != self._bar_waits:
            self._bar_waits = raw
            return None
        self._bar_loss = loss
        self._raw_step = raw
        self._step = metrics["step"] = raw + self._offset
        metrics["rank"] = self.rank
        return metrics

    def _known(self, values: dict) -> tuple[dict, set]:
        """Return the known metrics of an object and the keys that told them; the first synonym wins."""
        metrics: dict = {}
        lower = {key.lower(): key for key in values if isinstance(key, str)}
        for key, names in SYNONYMS.items():
            any(name in lower and self._put(metrics, key, values[lower[name]]) for name in names)  # the first one wins
        return metrics, {original for name, original in lower.items() if name in _KNOWN}

    @staticmethod
    def _put(metrics: dict, key: str, value: object) -> bool:
        """Set a number, or None and a note in `nonfinite`; tell whether there was a number at all."""
        number = _number(value)
        if number is None or (key in _COUNTS and not 0 <= number < 1e15):
            return False
        if key == "step" and abs(number - round(number)) > 1e-6:  # 0.1 epochs of 30 steps are 3.0000000000000004
            return False
        if math.isfinite(number):
            metrics[key] = round(number) if key in _COUNTS else number
        else:
            metrics[key] = None
            metrics.setdefault("nonfinite", []).append(key)
        return True

    def _numbered(self, metrics: dict) -> dict:
        """Give the metrics their step: their own, that of the progress bar, or the next one."""
        step, epoch = metrics.get("step"), metrics.get("epoch") or 0.0
        if step is None:
            step = self._step + 1
            if self._trainer_bar is not None:
                step = max(step, self._trainer_bar[0])
                metrics.setdefault("total_steps", self._trainer_bar[1])
        elif not self._own_metrics:
            # Where the steps of an epoch start again, those of the run go on.
            if step <= self._raw_step and epoch > self._epoch:
                self._offset = self._step + (step == 0)
            self._raw_step = step
            step += self._offset
            if self._offset:
                metrics.pop("total_steps", None)
        self._epoch = max(self._epoch, epoch)
        self._step = metrics["step"] = step
        metrics["rank"] = self.rank
        return metrics


def _is_training_loss(match: re.Match, text: str, has_step: bool) -> bool:
    """Tell whether `loss NUMBER` is the loss of training: not "val loss 3.1", nor "packet loss 3"."""
    before = text[max(0, match.start() - 36) : match.start()].lower()
    word, joint = _WORD_BEFORE.search(before).groups()
    if word in _NOT_LOSS or (word and not joint):
        return False
    if joint and " " not in joint:
        outer, outer_joint = _WORD_BEFORE.search(before[: -len(word + joint)]).groups()
        if word not in _LOSS_WORDS or (outer in _NOT_LOSS and " " not in outer_joint):
            return False
    gap, value = match[1], match[2].lower()
    sure = bool(gap.strip()) or has_step or word in _LOSS_WORDS
    return sure or "." in value or value.lstrip("+-").startswith(("nan", "inf"))


def _json_object(text: str) -> dict | None:
    if not (text.startswith("{") and len(text) <= LONGEST_LINE):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_misnumbered(values: dict, metrics: dict) -> bool:
    """Tell whether an object's step is none: nobody knows which step -5, 2.5, 1e30 or NaN is."""
    return "step" not in metrics and any(values[key] is not None for key in values if key.lower() in SYNONYMS["step"])


def _is_number_of_its_own(key: str, value: object) -> bool:
    named = 0 < len(key) <= 64 and key.isprintable() and key not in ("rank", "job_id", "nonfinite")
    return named and isinstance(value, (int, float))


def _number(value: object) -> float | int | None:
    """Return a number as it is, or read from text ("2.31", "1,200", "nan"); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        if isinstance(value, int):
            return value if abs(value) < 2**63 else float(value)
        return float(value) if isinstance(value, float) else float(value[:64].replace(",", ""))
    except (ValueError, OverflowError):
        return None
