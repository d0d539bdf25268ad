# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""GPUs, priorities and time limits as people write them; secrets by name alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugro_py import secret_env
from ugro_py.errors import UsageError
from ugro_py.request import options
from ugro_py.request.job import JobRequest, check


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, (None, None, None)),
        (2, (2, None, None)),
        ("2", (2, None, None)),
        ("24GB..", (None, 24.0, None)),
        ("24gb..", (None, 24.0, None)),
        ("2x24GB..", (2, 24.0, None)),
        ("2x8GB..16GB", (2, 8.0, 16.0)),
        ("..16GB", (None, None, 16.0)),
        ("1x7.5..8", (1, 7.5, 8.0)),
    ],
)
def test_gpus(text: str | int | None, wanted: tuple[int | None, float | None, float | None]) -> None:
    assert options.gpus(text) == wanted


@pytest.mark.parametrize("text", ["", "many", "..", "2x", "2x..", "24GB", "16GB..8GB", "-1", "1e3", "2x24TB..", "0x1f"])
def test_gpus_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--gpus"):
        options.gpus(text)


@pytest.mark.parametrize(("text", "wanted"), [("urgent", 90), ("Normal", 50), ("batch", 10), ("0", 0), ("100", 100)])
def test_priority(text: str, wanted: int) -> None:
    assert options.priority(text) == wanted


@pytest.mark.parametrize("text", ["101", "-1", "high", "", "5.5"])
def test_priority_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--priority"):
        options.priority(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h30m", 9000.0), ("90m", 5400.0), ("3600", 3600.0), ("1d", 86400.0), ("45s", 45.0)]
)
def test_time_limit(text: str, seconds: float) -> None:
    assert options.time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "1.5h", "400d", "30m2h", "99999999999"])
def test_time_limit_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--time-limit"):
        options.time_limit(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for reader in (options.gpus, options.priority, options.time_limit):
        try:
            reader(text)
        except UsageError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 10**9}, "at most"),
        ({"nodes": 2, "min_nodes": 3}, "--min-nodes"),
        ({"after": ("../x",)}, "not a valid name"),
        ({"after": ("j",)}, "the job itself"),
        ({"secret_env": ("A B",)}, "--secret-env"),
        ({"secret_env": ("UGRO_TOKEN",)}, "--secret-env"),
        ({"secret_env": ("A",), "env": {"A": "1"}}, "--env too"),
        ({"priority": 101}, "--priority"),
        ({"tags": ("good", "bad!tag")}, "tag 'bad!tag'"),
        ({"note": "x" * 20_001}, "note"),
    ],
)
def test_requests_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(JobRequest("j", **values), ask_hub=False)  # type: ignore[arg-type]


def test_secrets_are_in_memory_and_asked_for_again() -> None:
    values = secret_env.from_environment(["A"], {"A": "canary", "B": "2"})
    secret_env.keep("job", values)
    assert secret_env.of("job", ("A",)) == {"A": "canary"}
    handed = secret_env.to_pipe("job")
    secret_env.forget("job")
    with pytest.raises(secret_env.SecretsLostError, match="ugro resume job --secret-env A"):
        secret_env.of("job", ("A",))
    secret_env.from_pipe("job", handed)
    assert secret_env.of("job", ("A",)) == {"A": "canary"}
    secret_env.forget("job")
    assert "canary" not in json.dumps(JobRequest("job", secret_env=("A",)).as_dict())
    with pytest.raises(UsageError, match="not set"):
        secret_env.from_environment(["NOPE"], {})
