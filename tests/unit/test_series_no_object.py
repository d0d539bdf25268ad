# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A line of metrics that is no object ends no process: Arrow's parser does where it is `null`."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from ugro_py.series.lines import MetricLines
batch, broken = MetricLines()(bytearray(sys.stdin.buffer.read()))
print(batch.num_rows, broken)
"""


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"null\n", "0 1"),
        (b'{"rank": 1}\nnull\n', "1 1"),
        (b'\n\n null\n{"rank": 1}\n', "1 1"),
        (b'{"rank": 1} null\n{"rank": 2}\n', "1 1"),
        (b'{"rank": 1} null {}\n', "0 1"),
        (b'{"rank": 1}\t\r\nnull', "1 1"),
        (b'{"step": {"a": {}}}null\n', "0 1"),
        (b'{"rank": 1}\nnull {"rank": 2}\n', "1 1"),
        (b'{"rank": 1}\nnull}\n{"rank": 2}\n', "2 1"),
        (b'{"rank": 1}\n{"rank": 2} null {}\n', "1 1"),
        (b'{"rank": 1} null\n}\n{"a": "}"}\n', "1 2"),
        (b'{"rank": 1, "x": "\n}\n{"\n}\nnull\n{}\n', "1 5"),
        (b'[{"rank": 1}]\nnull\n7\n"x"\n\x00null\n\xef\xbb\xbfnull\n', "0 6"),
    ],
)
def test_what_is_no_object(data: bytes, found: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE], input=data, capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode().strip()) == (0, found), done.stderr.decode()


MIX = """
import random
from ugro_py.series import lines
from ugro_py.series.lines import MetricLines
rng = random.Random(1)
parts = [b"{", b"}", b"\\n", b"null", b'"', b'"x": ', b"[", b"]", b", ", b" ", b"1", b'{"rank": 1}', b'{"x": 2.5}\\n',
         b'{"rank": 1, "nonfinite": ["x"]}\\n', b'"}"', b"\\r", b'{"y": {"z": 1}}\\n', b"{}", b"\\\\"]
fast = 0
for _ in range(6000):
    data = bytearray(b"".join(rng.choices(parts, k=rng.randrange(1, 14))) + b"\\n")
    found, plain = MetricLines(), MetricLines()
    batch, broken = found(data)
    slow, wrong = plain._slow(data)
    told = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    wanted = {name: slow.column(name).to_pylist() for name in slow.schema.names}
    empty = [None] * len(slow)
    for name in set(told) | set(wanted):
        assert repr(told.get(name, empty)) == repr(wanted.get(name, empty)), (bytes(data), name)
    assert (batch.num_rows, broken) == (slow.num_rows, wrong), bytes(data)
    fast += MetricLines()._fast(data) is not None
print("same", fast > 60)
"""


def test_what_the_fast_way_says_of_any_mix_is_what_the_slow_one_says() -> None:
    done = subprocess.run([sys.executable, "-c", MIX], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "same True"), done.stderr
