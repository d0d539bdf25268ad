# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Files that the dashboard's form Launch brings along: scripts, folders, archives, and those that are refused."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import io
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.unit.api_server import Served
from tests.unit.browser import Browser, browser, served, start  # noqa: F401 - fixtures
from tests.unit.launch_form import Files, code_of, nothing_left, send, tarred, zipped
from tests.unit.web_jobs import check_safe, words
from ugro_py import paths
from ugro_py.api import guard, uploads
from ugro_py.errors import UsageError
from ugro_py.web import sent_files, upload_form
from ugro_py.web.launch_fields import field_of


def test_a_script_and_its_files_are_launched_as_they_are(browser: Browser, served: Served) -> None:
    form = {"name": "sent", "args": "--lr 3e-4 --title 'two words' a\\ b", "hold": "yes", "model": "tiny-llama"}
    files = [
        ("script", "train.py", b"import helper\r\n"), ("files", "helper.py", b"x = 1\n"),
        ("files", "data.bin", bytes(range(256))),
        ("folder", "proj/lib/a.py", b"a"), ("folder", "proj/b.txt", b"b"), ("archive", "", b""),
    ]  # fmt: skip
    answer = send(browser, form, files)
    assert answer.status == 303 and answer.headers["location"] == "/experiments/sent", answer.text
    asked = served.agent.store.job("sent").request
    assert asked["script"] == "train.py" and asked["args"] == ["--lr", "3e-4", "--title", "two words", "a b"]
    assert code_of("sent") == {"train.py": b"import helper\r\n", "helper.py": b"x = 1\n", "data.bin": bytes(range(256)),
                               "lib/a.py": b"a", "b.txt": b"b"}  # fmt: skip
    assert list(paths.spool_inbox().glob("*")) == []


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_is_unpacked(browser: Browser, pack: object) -> None:
    members = [("proj/main.py", b"print(1)\n"), ("proj/sub/x.json", b"{}"), ("proj/tool.py", b"t")]
    content = pack(*members)  # type: ignore[operator]
    ambiguous = send(browser, {"name": "packed", "hold": "yes"}, [("archive", "p.zip", content)])
    assert ambiguous.status == 400 and "name one: main.py, tool.py" in words(ambiguous.text)
    done = send(browser, {"name": "packed", "hold": "yes", "entry": "main.py"}, [("archive", "p.zip", content)])
    assert done.status == 303, done.text
    assert code_of("packed") == {"main.py": b"print(1)\n", "sub/x.json": b"{}", "tool.py": b"t"}


HOSTILE: list[tuple[str, Files]] = [
    (name, [("script", "a.py", b""), ("files", name, b"x")])
    for name in (
        "../x", "/etc/x", "a/../../x", "a\\..\\x", "..", "a//b", "./a", "x" * 300, "a\x01b", "a/" * 40 + "b", "a.py",
    )
] + [
    (f"{word} in {form}", [("archive", "pack", content), ("script", "a.py", b"")])
    for form, word, content in (
        ("zip", "traversal", zipped(("../x", b"x"))), ("zip", "absolute", zipped(("/x", b"x"))),
        ("zip", "link", zipped(("x", b"/etc/passwd"), kind=stat.S_IFLNK)),
        ("zip", "device", zipped(("x", b""), kind=stat.S_IFCHR)),
        ("zip", "backslash", zipped(("a\\x", b"x"), ("b", b""))),
        ("zip", "twice", zipped(("a.py", b"x"))), ("zip", "rubbish", b"PK\x05\x06" + b"\xff" * 200),
        ("tar", "traversal", tarred(("a/../../x", b"x"))), ("tar", "absolute", tarred(("/x", b"x"), ("y", b""))),
        ("tar", "link", tarred(("x", b""), kind=tarfile.SYMTYPE, link="/etc/passwd")),
        ("tar", "hard link", tarred(("x", b""), kind=tarfile.LNKTYPE, link="a.py")),
        ("tar", "pipe", tarred(("x", b""), kind=tarfile.FIFOTYPE)), ("tar", "rubbish", b"\x1f\x8b" + b"x" * 300),
        ("tar", "cut off", tarred(("x", bytes(100_000)), mode="w")[:5000]), ("tar", "nothing", b""),
        ("tar", "too much", tarred(("x", bytes(sent_files.MOST_BYTES // 64)), mode="w:gz")),
    )
]  # fmt: skip


@pytest.mark.parametrize(("case", "files"), HOSTILE, ids=[repr(case)[:30] for case, _ in HOSTILE])
def test_files_that_lead_elsewhere_or_are_too_much(
    case: str, files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sent_files, "MOST_BYTES", sent_files.MOST_BYTES // 100)
    place = tmp_path / "outer" / "place"
    place.mkdir(parents=True)
    chosen = {field: [(name, io.BytesIO(data)) for f, name, data in files if f == field] for field, _, _ in files}
    with pytest.raises(UsageError) as said:
        sent_files.gather(sent_files.Sent(**chosen), place)  # type: ignore[arg-type]
    assert field_of(said.value) == ("archive" if "archive" in chosen else "files"), said.value
    outside = [path for path in tmp_path.rglob("*") if place not in (path, *path.parents) and path != place.parent]
    assert outside == [] and not [path for path in place.rglob("*") if path.is_symlink()]


def test_what_is_refused_leaves_nothing(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for _, files in HOSTILE[::5]:
        answer = send(browser, {"name": "hostile", "hold": "yes", "retry": "7"}, files)
        assert answer.status == 400 and 'role="alert"' in answer.text and 'value="7"' in answer.text, answer.text
        check_safe(answer.text)
    assert nothing_left(served)
    assert list(temporary.iterdir()) == []


def test_a_zip_with_a_huge_list_is_refused_unread(browser: Browser, served: Served) -> None:
    content = zipped(*[(f"{number:05}" + "x" * 80, b"") for number in range(9000)])
    answer = send(browser, {"name": "many"}, [("archive", "p.zip", content)])
    assert answer.status == 413 and "more than 1000 files" in words(answer.text)
    files = [("folder", f"p/{number}", b"") for number in range(sent_files.MOST_FILES + 1)]
    assert "more than 1000 files" in words(send(browser, {"name": "many"}, files).text)
    files = [("folder", f"p/{number}", b"") for number in range(sent_files.MOST_FILES + 10)]
    assert send(browser, {"name": "many"}, files).status == 413
    assert nothing_left(served)


def test_what_was_typed_comes_back_with_files_that_are_refused(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {"name": "typed", "note": "é <b>\r\nlast", "hold": "yes", "secrets": "KEY=hush"}
    script = ("script", "a.py", b"")

    def refused(status: int, said: str, *files: tuple[str, str, bytes]) -> None:
        answer = send(browser, form, [script, *files])
        assert answer.status == status, answer.text
        shown = words(answer.text)
        assert said in shown and "browsers do not keep it: Script" in shown, shown
        assert 'value="typed"' in answer.text and "\né &lt;b&gt;\r\nlast</textarea>" in answer.text
        assert "hush" not in answer.text and "Secret variables." in shown
        assert nothing_left(served)

    many = [("folder", f"p/{number}", b"") for number in range(sent_files.MOST_FILES + 10)]
    refused(413, "Too many files", *many)
    assert 'id="files-error">Too many files' in send(browser, form, many).text  # beside the field
    large = ("files", "large.bin", bytes(guard.BODY_LIMIT + 5))
    monkeypatch.setattr(uploads, "USER_BYTES", 1000)
    refused(403, "of uploads that wait", large)
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "RESERVE_BYTES", 1 << 60)
    monkeypatch.setattr(uploads, "RESERVE_MOST_BYTES", 1 << 60)
    refused(507, "no room in the central store", large)
    monkeypatch.undo()
    monkeypatch.setattr(upload_form, "FORM_LIMIT", 2 << 20)
    refused(413, "are 3 MB, 1 MB are taken here", ("archive", "p.tar", bytes(3 << 20)))
    assert send(browser, form, [("archive", "p.tar", bytes(3 << 20))], "wrong").status == 403


def test_a_form_that_is_too_large_or_from_elsewhere(browser: Browser, served: Served) -> None:
    too_large = browser.ask("POST", "/launch", "", content_type="multipart/form-data; boundary=x",
                            content_length=str(guard.FORM_READ_LIMIT + 1))  # fmt: skip
    assert too_large.status == 413
    elsewhere = browser.ask("POST", "/login", "", content_type="multipart/form-data; boundary=x",
                            content_length=str(guard.BODY_LIMIT + 1))  # fmt: skip
    assert elsewhere.status == 413  # only this form brings files
    large = [("script", "a.py", b""), ("files", "large.bin", bytes(guard.BODY_LIMIT + 5))]
    small = [("script", "a.py", b"")]
    for token, headers, status in (
        ("wrong", {}, 403), ("", {"origin": "http://evil.example"}, 403), ("", {"sec_fetch_site": "cross-site"}, 403),
        ("", {"content_type": "text/plain"}, 400), ("", {"content_type": "multipart/form-data"}, 400),
    ):  # fmt: skip
        assert send(browser, {"name": "x"}, small, token, **headers).status == status, (token, headers)
    assert send(browser, {"name": "x"}, large, "wrong").status == 403
    assert nothing_left(served)
    stranger = Browser(served)
    assert send(stranger, {"name": "x"}, small, "x").status == 401  # with what was typed
    assert send(browser, {"name": "large", "hold": "yes"}, large).status == 303
    assert len(code_of("large")["large.bin"]) == guard.BODY_LIMIT + 5
