# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A line of metrics that is no object ends no process: Arrow's parser does where it is `null`."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from ugro_py.series_lines import MetricLines
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
        (b'[{"rank": 1}]\nnull\n7\n"x"\n\x00null\n\xef\xbb\xbfnull\n', "0 6"),
    ],
)
def test_what_is_no_object(data: bytes, found: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE], input=data, capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode().strip()) == (0, found), done.stderr.decode()
