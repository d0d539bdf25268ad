# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures every test may use: the lab of real hosts. And how tests are dealt over workers (`pytest -n N`)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import Lab, skip_reason

if TYPE_CHECKING:
    from tests.spread import ByFile

# A plug-in of tests whose names others import, the browser's too: before any of them does.
pytest.register_assert_rewrite("tests.integration.two_users")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give a worker a short temporary folder: the sockets in it have paths of at most 107 bytes.

    Ctrl-C works in what tests start, also where a shell started the tests in the background, and so without SIGINT.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        folder = Path(config.option.basetemp)  # …/popen-gw0
        config.option.basetemp = str(folder.with_name(folder.name.removeprefix("popen-")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Deal whole files, in the order of collection."""
    from tests.spread import ByFile

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test marked `alone` run while no other worker runs one; its timeout begins when it does."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    from tests.spread import room

    with room(Path(item.config.option.basetemp).parent, alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests marked `lab`, with the reason, where the lab cannot run; put long files first for workers."""
    if hasattr(config, "workerinput"):
        from tests.spread import rank

        items.sort(key=rank)
    lab_items = [item for item in items if item.get_closest_marker("lab")]
    reason = skip_reason() if lab_items else None
    for item in lab_items if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def lab3() -> Iterator[Lab]:
    """Three hosts shared by the whole run: users root, ob and ollie; gpu2's SSH port is 2222.

    A test that unplugs or switches off a host puts it back, or boots its own with `make_lab`.
    """
    with Lab.up(3, users="mixed", ports={2: 2222}) as lab:
        yield lab


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    """A function like `Lab.up` whose labs end with the test."""
    made: list[Lab] = []

    def up(*arguments: object, **options: object) -> Lab:
        made.append(Lab.up(*arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    yield up
    for lab in made:
        lab.down()
