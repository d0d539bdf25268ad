# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Charts in Chromium: what stands at their axes can be read, and what a page does not draw unasked can be chosen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Visitor, drawn, no_overflow

pytestmark = [pytest.mark.lab, pytest.mark.slow]

# Draws a line along x from 1.7e9 (or from 0) over so many seconds; gives texts, their places and widths in pixels.
AXIS = """([by, span, width]) => {
    const place = document.createElement('div');
    place.style.width = `${width}px`;
    document.body.append(place);
    const start = by === 'time' ? 1.7e9 : 0;
    const x = Array.from({length: 50}, (_, at) => start + span * at / 49);
    const chart = new ugro.Chart(place, 'test');
    chart.set([{name: 'a', x, y: x.map(() => 1)}], {by});
    return new Promise(done => requestAnimationFrame(() => {
        const plot = chart.plot, axis = plot.axes[0];
        plot.ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
        done({width: plot.width, texts: axis._values, incr: axis._found[0],
              at: axis._splits.map(tick => plot.valToPos(tick, 'x') + plot.over.offsetLeft),
              wide: axis._values.map(text => plot.ctx.measureText(text).width / devicePixelRatio)});
        place.remove();
    })); }"""
# Draws two lines; says at which x of the first, each half a step, its colour is on the canvas.
GAPS = """([one, other]) => {
    const place = document.createElement('div');
    place.style.width = '900px';
    document.body.append(place);
    const chart = new ugro.Chart(place, 'test');
    chart.set([{name: 'one', colour: 0, ...one}, {name: 'other', colour: 1, ...other}], {by: 'step'});
    const probe = document.createElement('span');
    probe.style.color = 'var(--series-1)';
    document.body.append(probe);
    const wanted = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
    return new Promise(done => requestAnimationFrame(() => {
        const plot = chart.plot, canvas = plot.ctx.canvas, seen = [];
        const from = one.x[0], to = one.x.at(-1);
        const {data} = plot.ctx.getImageData(0, 0, canvas.width, canvas.height);
        for (let x = from; x <= to; x += 0.5) {
            const at = Math.round((plot.valToPos(x, 'x') + plot.over.offsetLeft) * devicePixelRatio);
            let hit = false;
            for (let row = 0; row < canvas.height; row++)
                for (let column = at - 2; column <= at + 2; column++) {
                    const pixel = 4 * (row * canvas.width + column);
                    hit ||= data[pixel + 3] > 200 && wanted.every((part, of) => Math.abs(part - data[pixel + of]) < 40);
                }
            if (hit) seen.push(x);
        }
        place.remove();
        probe.remove();
        done(seen);
    })); }"""
SPANS = (20, 75, 400, 2000, 5000, 16_600, 90_000, 400_000, 6_000_000)


@pytest.mark.parametrize("by", ["time", "since", "step"])
def test_texts_of_an_axis_do_not_run_into_each_other(page: Page, by: str) -> None:
    page.goto("/experiments/done")
    drawn(page, "[data-charts] canvas")
    for span in SPANS:
        for width in (310, 560, 1300):
            axis = page.evaluate(AXIS, [by, span, width])
            what = f"{by} {span} s on {width}: {axis['texts']}"
            ends = [at + wide / 2 for at, wide in zip(axis["at"], axis["wide"], strict=True)]
            begins = [at - wide / 2 for at, wide in zip(axis["at"], axis["wide"], strict=True)]
            assert all(end + 4 <= begin for end, begin in zip(ends, begins[1:], strict=False)), what
            assert begins[0] >= 0 and ends[-1] <= axis["width"], what
            assert len(axis["texts"]) >= (1 if width < 400 else 2), what
            if by != "step" and axis["incr"] > 60:
                assert axis["incr"] % 60 == 0, what
                assert 3600 % axis["incr"] == 0 or axis["incr"] % 3600 == 0, what


def test_long_numbers_have_room_beside_the_chart(page: Page) -> None:
    page.goto("/experiments/done")
    drawn(page, "[data-charts] canvas")
    script = """values => {
        const place = document.createElement('div');
        place.style.width = '500px';
        document.body.append(place);
        const chart = new ugro.Chart(place, 'test');
        chart.set([{name: 'a', x: values.map((_, at) => at), y: values}], {by: 'step'});
        return new Promise(done => requestAnimationFrame(() => {
            const plot = chart.plot, axis = plot.axes[1];
            plot.ctx.font = axis.font[0];
            const wide = axis._values.map(text => plot.ctx.measureText(text).width / devicePixelRatio);
            done([axis._values, Math.max(...wide), plot.over.offsetLeft - axis.ticks.size - axis.gap]);
            place.remove();
        })); }"""
    for values in ([-1_000_000, 0, 1_000_000], [-123_456_789, 1], [-1e-300, 1e-300]):
        texts, wide, room = page.evaluate(script, values)
        assert texts and wide < room, (texts, wide, room)
    _, _, usual = page.evaluate(script, [0, 1])
    assert usual == 64 - 10 - 5


def test_values_that_are_no_numbers_are_gaps(page: Page) -> None:
    page.goto("/experiments/done")
    drawn(page, "[data-charts] canvas")
    other = {"x": [1.25, 4.25, 7.25], "y": [9, 9, 9]}
    line = {"x": list(range(1, 11)), "y": [1, 2, 3, None, 3, 2, None, 2, None, 3]}
    gaps = page.evaluate(GAPS, [line, other])
    assert gaps == [1, 1.5, 2, 2.5, 3, 5, 5.5, 6, 8, 10]  # what stands alone is seen
    # Where only another line has a point there is no gap.
    assert page.evaluate(GAPS, [{"x": [1, 4, 10], "y": [2, 2, 2]}, other]) == [x / 2 for x in range(2, 21)]


def test_what_is_not_drawn_unasked_is_told_and_can_be_chosen(visit: Callable[..., Visitor]) -> None:
    page = visit(viewport={"width": 390, "height": 844}).go("/experiments/done")
    more = page.get_by_role("form", name="More curves")
    expect(more).to_contain_text("4 more numbers are not drawn")
    titles = page.locator("[data-charts] figcaption")
    expect(titles).to_have_count(24)
    more.get_by_role("combobox").select_option("many_18")
    more.get_by_role("button").press("Enter")
    expect(titles).to_have_count(25)
    expect(titles.last).to_have_text("many_18")
    expect(more).to_contain_text("3 more numbers are not drawn")
    page.locator("#chart-by").select_option("time")
    expect(page.locator("[data-charts] figure", has_text="many_18").locator(".u-legend")).to_contain_text("time")
    no_overflow(page)


def test_how_curves_are_drawn_is_in_the_address(visit: Callable[..., Visitor]) -> None:
    page = visit().go("/experiments/done?rank=0#curves")
    more = page.get_by_role("form", name="More curves")
    titles = page.locator("[data-charts] figcaption")
    more.get_by_role("combobox").select_option("many_18")
    more.get_by_role("button").press("Enter")
    expect(titles).to_have_count(25)
    assert page.url.endswith("/experiments/done?rank=0&more=many_18#curves")
    page.locator("#chart-by").select_option("time")
    page.locator("#chart-smooth").fill("0.5")
    page.get_by_label("log loss").check()
    page.wait_for_url(lambda url: all(word in url for word in ("by=time", "smooth=0.5", "log=on", "more=many_18")))
    shared = page.url
    page.locator("#log-rank").select_option("all")
    page.get_by_role("button", name="Show").click()  # the page again, with another log
    page.wait_for_url(lambda url: "rank=all" in url)
    for address in (page.url, shared, shared.replace("time", "moon").replace("0.5", "x")):
        page.goto("about:blank")
        page.goto(address)
        expect(titles.filter(has_text="many_18")).to_have_count(1)
        expect(page.locator("#chart-by")).to_have_value("time" if "time" in address else "step")
        expect(page.get_by_label("log loss")).to_be_checked()
        if "0.5" in address:
            expect(page.locator("#chart-smooth")).to_have_value("0.5")
            expect(page.locator("[data-smooth]").first).to_have_text("0.5")
    page.locator("#chart-by").select_option("time")
    page.locator("#chart-by").select_option("step")  # what would be so without is not in it
    page.wait_for_url(lambda url: "by=" not in url and "more=many_18" in url)


def test_a_chart_that_grows_or_is_drawn_anew_stays_as_somebody_made_it(page: Page) -> None:
    page.goto("/experiments/done")
    page.wait_for_function("() => window.ugro && ugro.Chart")
    found = page.evaluate(
        """async () => {
        const place = document.createElement('div');
        place.style.width = '900px';
        document.body.append(place);
        const chart = new ugro.Chart(place, 'test');
        const line = (name, size) => ({name, x: [...Array(size).keys()], y: [...Array(size).keys()]});
        const rest = () => new Promise(done => setTimeout(() => requestAnimationFrame(done)));
        const look = async () => { await rest(); const {x, y} = chart.plot.scales; return {
            x: [x.min, x.max], y: y.max, off: [...place.querySelectorAll('.u-off th')].map(one => one.textContent)}; };
        chart.set([line('a', 11), line('b', 11)], {by: 'step'});
        await rest();
        chart.zoomed = true;
        chart.plot.setScale('x', {min: 2, max: 20});
        place.querySelectorAll('.u-series th')[2].click();
        const out = [await look()];
        chart.set([line('a', 16), line('b', 16)], {by: 'step'});
        out.push(await look());
        chart.set([line('a', 16), line('b', 16), line('c', 3)], {by: 'step'});
        out.push(await look());
        chart.set([line('a', 16), line('b', 16), line('c', 3)], {by: 'step', log: true});
        out.push(await look());
        chart.set([line('a', 16), line('b', 16), line('c', 3)], {by: 'since'});
        out.push(await look());
        place.remove();
        return out; }"""
    )
    zoomed, grown, more, log, along_time = found
    assert zoomed["x"] == [2, 20] and zoomed["off"] == ["b"]
    assert grown["x"] == [2, 20] and grown["off"] == ["b"] and grown["y"] > zoomed["y"]  # what is new is drawn
    for drawn_anew in (more, log):
        assert drawn_anew["x"] == [2, 20] and drawn_anew["off"] == ["b"]
    assert along_time["x"][0] == 0 and along_time["off"] == ["b"]  # steps 2 to 20 are no times
