# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Accounts that are no admin, each in its own Chromium: what they are offered, and what they get if they insist."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import PAGES, Site, Visitor, says, until

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Visit = Callable[..., Visitor]

# Accounts of no name, as the kernel tells of them: one that has a job, one that has none.
ANN, VIC = 64001, 64002
_numbers = itertools.count(1)
LIVE = [f"/experiments/live/{verb}" for verb in ("stop", "hold", "release", "cancel", "priority", "move", "resume",
                                                 "rerun", "note", "tags")]  # fmt: skip
NODES = ["/nodes/gpu2/drain", "/nodes/gpu2/resume"]
# Sent by a page of the dashboard, with its token, as its own script would.
INSIST = """async ([path, fields]) => {
    const token = JSON.parse(document.body.getAttribute('hx-headers'))['X-CSRF-Token'];
    const body = new URLSearchParams({csrf: token, ...fields});
    const answer = await fetch(path, {method: 'POST', body, headers: {accept: 'text/html'}});
    return [answer.status, (await answer.text()).replace(/\\s+/g, ' ')];
}"""
FIELDS = {"priority": "1", "to": "first", "text": "mine now", "tags": "mine", "reason": "mine now", "name": "stolen"}


@pytest.fixture
def anns(full: Site, visit: Visit) -> Iterator[str]:
    """A job that ann has put into the queue, with the form; it is held there."""
    name = f"anns-{next(_numbers)}"
    page = visit(uid=ANN).go("/launch")
    page.locator("#name").fill(name)
    page.locator("#nodes").fill("1")
    page.get_by_text("A script of your own instead").click()
    page.locator("#code").fill("import time\nprint('it is hers', flush=True)\ntime.sleep(3600)\n")
    page.get_by_label("Hold it in the queue").check()
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url(f"**/experiments/{name}*")
    assert (full.ugro.job(name).user, full.ugro.job(name).held) == (str(ANN), True)
    yield name
    if full.ugro.job(name).active:
        full.ugro.run("stop", name, "--force")


def offered(page: Page) -> list[str]:
    """Return where the forms of a page that change something lead to."""
    found: list[str] = page.eval_on_selector_all(
        "main form[method=post], main [hx-post]", "all => all.map(one => new URL(one.action).pathname)"
    )
    return sorted(set(found))


def test_who_has_no_job_is_offered_nothing(full: Site, anns: str, visit: Visit) -> None:
    visitor = visit(uid=VIC)
    expect(visitor.page.locator(".user")).to_contain_text(str(VIC))
    expect(visitor.page.locator(".user")).not_to_contain_text("admin")
    theirs = {"/experiments/live/artifacts": "rank_0.log"}  # who submitted a job alone has its config.json
    for path, text in {**PAGES, **theirs, f"/experiments/{anns}": anns}.items():
        says(visitor.go(path), text)
        # To launch a job of one's own is what everybody may.
        assert offered(visitor.page) == (["/launch"] if path == "/launch" else []), path


def test_what_is_offered_on_live_pages_stays_so(full: Site, anns: str, visit: Visit) -> None:
    page = visit(uid=ANN).go("/")
    expect(page.locator("#live-state")).to_have_text("Live")
    row = page.locator("tr", has=page.get_by_role("link", name="live", exact=True))
    before = row.inner_text()
    expect(row).not_to_have_text(before)  # the stream has sent it anew
    assert offered(page) == []
    page.goto("/queue")
    expect(page.locator("#live-state")).to_have_text("Live")
    until(lambda: page.locator(f"#queued-{anns} button").count(), "her own buttons")
    assert {path.split("/")[2] for path in offered(page)} == {anns}
    page.goto("/health")
    expect(page.locator("#live-state")).to_have_text("Live")
    assert offered(page) == []


def test_who_insists_is_refused(full: Site, anns: str, visit: Visit) -> None:
    visitor = visit(uid=VIC)
    page = visitor.go("/experiments/live")
    with full.ugro.store() as store:
        before = store.job("live"), store.job(anns), store.note("live"), [row.drain for row in store.nodes()]
    for path in [*LIVE, *(path.replace("/live/", f"/{anns}/") for path in LIVE), *NODES]:
        status, text = page.evaluate(INSIST, [path, FIELDS])
        assert status == 403, f"{path}: {status} {text[:300]}"
        whose = "only an admin may" if path in NODES else f"you are {VIC}"
        assert whose in text, f"{path}: {text[:300]}"
    with full.ugro.store() as store:
        after = store.job("live"), store.job(anns), store.note("live"), [row.drain for row in store.nodes()]
        refused = [row for row in store.audit(100, str(VIC)) if row.outcome.startswith("refused")]
    assert after == before
    assert {row.verb for row in refused} >= {"stop", "hold", "release", "cancel", "rerun", "note", "tag", "drain"}
    assert {row.data["door"] for row in refused} == {"web"}
    assert "stolen" not in [job.name for job in full.ugro.jobs()]


def test_a_form_that_is_turned_on_the_job_of_another_says_why_not(full: Site, anns: str, visit: Visit) -> None:
    page = visit(uid=ANN).go(f"/experiments/{anns}")
    page.evaluate(
        """() => { const form = document.querySelector('#confirm-stop form');
        form.action = '/experiments/live/stop'; form.setAttribute('hx-post', '/experiments/live/stop');
        htmx.process(form); }"""
    )
    page.locator("#confirm-stop summary").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    expect(page.locator(".page-head .answer .notice-error")).to_contain_text(f"it is root's, you are {ANN}")
    assert not full.ugro.job("live").stop_requested


def test_code_and_arguments_are_their_owners(full: Site, anns: str, visit: Visit) -> None:
    secret = "time.sleep(3600)"
    page = visit(uid=VIC).go(f"/experiments/{anns}")
    assert secret not in page.content()
    assert page.request.get(f"/experiments/{anns}/artifacts/config.json").status == 404
    says(page, anns)


def test_ones_own_job_is_ones_own(full: Site, anns: str, visit: Visit) -> None:
    visitor = visit(uid=ANN)
    page = visitor.go("/queue")
    line = page.locator(f"#queued-{anns}")
    line.locator("summary").click()
    line.locator("input[name=priority]").fill("7")
    line.get_by_role("button", name="Set priority").click()
    expect(line.locator(".answer")).to_contain_text("has priority 7")
    line.locator("input[name=priority]").fill("99")  # above what she may ask for
    line.get_by_role("button", name="Set priority").click()
    expect(line.locator(".answer .notice-error")).to_contain_text(f"{ANN} may ask for 50 at most")
    page.goto(f"/experiments/{anns}")
    page.locator("#tags").fill("hers")
    page.get_by_role("button", name="Save tags").click()
    says(page, f"Job {anns} has the tags hers.")
    page.get_by_role("button", name="Release").click()
    expect(page.locator("[data-part=facts]")).to_contain_text("running")
    expect(page.locator(".log").first).to_contain_text("it is hers")
    page.goto("/")
    stop = page.get_by_role("button", name=f"Stop job {anns}")
    expect(stop).to_be_visible()
    assert offered(page) == [f"/experiments/{anns}/stop"]
    stop.click()
    until(lambda: full.ugro.job(anns).status == "stopped", "it has ended")
    with full.ugro.store() as store:
        done = {(row.verb, row.outcome, row.data["door"]) for row in store.audit(100, str(ANN)) if row.target == anns}
    assert {("release", "done", "web"), ("stop", "done", "web")} <= done
