"""What is drawn and written on a terminal: curves, numbers for people, lines that are safe to show."""

from __future__ import annotations

import pytest

from ugro_py.display import counted, curve, duration, number, safe_line


@pytest.mark.parametrize("width", [10, 40, 80, 200])
@pytest.mark.parametrize("braille", [True, False])
@pytest.mark.parametrize(
    "points",
    [
        [(5, 2.0)],
        [(5, 2.0), (6, 2.0)],
        [(0, 1e-9), (1, 2e-9)],
        [(1, -3.0), (2, 1e12), (10**9, 5.0)],
        [(step, 9 / step) for step in range(1, 5000)],
    ],
)
def test_curves_have_honest_axes(points: list[tuple[int, float]], width: int, braille: bool) -> None:
    lines = curve(points, width=width, title="loss", braille=braille).splitlines()
    assert len(lines) == 18
    assert max(map(len, lines)) <= max(24, width)
    first, last = lines[1].split()[0], lines[14].split()[0]
    if len({value for _, value in points}) > 1:
        assert float(first) == pytest.approx(max(value for _, value in points), rel=0.01, abs=0.005)
        assert float(last) == pytest.approx(min(value for _, value in points), rel=0.01, abs=0.005)
        marks = [line[len(first) + 2 :] for line in lines[1:15]]
        assert marks[0].strip(), "the greatest value is drawn at the top"
        assert marks[-1].strip(), "the smallest value is drawn at the bottom"
    assert str(points[0][0]) in lines[-2].split()


def test_a_spike_between_columns_is_drawn() -> None:
    points = [(step, 9.0 if step == 5001 else 1.0) for step in range(10_000)]
    lines = curve(points, width=80, title="loss").splitlines()
    assert lines[1].startswith("9.00 ┤")
    assert all(len(line.split("┤")[-1].split("│")[-1].strip()) == 1 for line in lines[1:13])


def test_numbers_for_people() -> None:
    assert [number(x) for x in (None, 3, 1234.5, 0.00001234, 152.34)] == ["-", "3", "1,234", "1.234e-05", "152.3"]
    assert number(80.0, "%") == "80 %"
    assert [duration(x) for x in (None, -1, 0.06, 3.21, 59.99, 61.6, 245, 11220, 187200, 1e300)] == [
        "-", "0s", "0s", "3.2s", "59s", "1m01s", "4m05s", "3h07m", "2d04h", "1.157e+295d",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain\ttab é 漢", "plain\ttab é 漢"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m\x1b[0m"),
        ("a\x1b[2Jb\x1b[6nc\x1b[?25ld", "abcd"),
        ("\x1b]0;title\x07x\x1b]8;;http://x\x1b\\y", "xy"),
        ("\x1bcreset\x1b(0x\x1b7y", "resetxy"),
        ("a\x00\x07\x08\x7f\x9b31mb", "ab31mb"[:1] + "31mb"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("10%\r50%\r100%", "100%"),
        ("10%\r50%\r", "50%"),
        ("end\x1b", "end"),
        ("end\x1b[", "end"),
        ("end\x1b]0;never ends", "end"),
        ("", ""),
    ],
)
def test_lines_are_safe_on_a_terminal(line: str, shown: str) -> None:
    assert safe_line(line) == shown


def test_numbers_at_the_end_of_what_a_float_holds_are_drawn() -> None:
    assert number(-1.7e308) == "-1.7e+308"
    drawn = curve([(step, 1.7e308 * (-1) ** step) for step in range(200)], title="loss")
    assert "1.70e+308" in drawn
    assert "nan" not in drawn and "inf" not in drawn


def test_one_of_a_thing_is_no_plural() -> None:
    assert [counted(number, "GPU") for number in (0, 1, 2)] == ["0 GPUs", "1 GPU", "2 GPUs"]
