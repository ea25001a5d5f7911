"""The web console in a real browser, as a newcomer uses it, and as somebody hostile feeds it.

Every page that a test opens is watched: an uncaught exception, an error on the browser's console or a violation of the
content security policy fails the test.
"""

import re
import shutil
import time
import urllib.parse

import pytest
from confluent_kafka import Producer
from harness.thalweg import Thalweg
from harness.wait import until
from playwright.sync_api import expect, sync_playwright
from test_demo import Demo

CHROMIUM = shutil.which("chromium")
TOKENS = {"THALWEG_HTTP_TOKEN": "may-query", "THALWEG_HTTP_ADMIN_TOKEN": "may-define"}
HOSTILE = "<img src=x onerror=\"window.hacked='data'\">"
PAGES = ["#/sql", "#/pipeline", "#/views/stock_bars", "#/streams/sensor_data", "#/dashboards", "#/dashboards/demo:prices"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: infra/install")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    demo = Demo(tmp_path_factory.mktemp("console") / "demo", "--demo-rate", "400/s").start()
    until(lambda: "Ready after" in demo.out.read_text(), "the demo to be ready", 120)
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses root, which containers and CI are.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tabs:
    """Opens pages and fails the test for what goes wrong in them."""

    def __init__(self, chromium):
        self.chromium = chromium
        self.contexts = []
        self.problems = []
        self.allowed = []

    def open(self, url, ready=True, **options):
        context = self.chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.contexts.append(context)
        return self.watch(context.new_page(), url, ready)

    def watch(self, page, url, ready=True):
        page.on("pageerror", lambda error: self.problems.append(f"{page.url}: {error.stack or error}"))
        page.on("console", lambda message: self._heard(page, message))
        page.goto(url)
        if ready:
            expect(page.locator("main")).to_be_visible()
        return page

    def _heard(self, page, message):
        # The browser says this of each answer that is not 2xx; what the page makes of it is tested.
        refusal = re.match(r"Failed to load resource: .* status of (\d+)", message.text)
        if refusal and int(refusal[1]) in self.allowed:
            return
        if message.type in ("error", "warning"):
            self.problems.append(f"{page.url}: {message.type}: {message.text}")

    def close(self):
        for context in self.contexts:
            context.close()


@pytest.fixture
def tabs(chromium):
    tabs = Tabs(chromium)
    yield tabs
    tabs.close()
    assert not tabs.problems, "\n".join(tabs.problems)


def write(page, text):
    """Replaces the text of the editor, as a person does."""
    page.get_by_role("textbox", name="SQL", exact=True).click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.insert_text(text)


def ask(page, text):
    write(page, text)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Run")).to_be_visible(timeout=30_000)
    return page


def cell(page, row, column):
    return page.locator(f"[data-cell='{row}-{column}']")


def scrolls_sideways(page):
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_a_newcomer_runs_a_query_and_sees_a_chart_move(demo, tabs):
    page = tabs.open(demo.url)
    expect(page.get_by_role("textbox", name="SQL", exact=True)).to_contain_text("FROM site_alarms")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("columnheader").first).to_contain_text("site")
    expect(cell(page, 0, 0)).to_be_visible()
    expect(page.locator(".frontier")).to_contain_text("sensor_data")
    expect(page.locator(".result [role=status]")).to_contain_text(re.compile(r"\d+ rows? · [\d.]+ m?s"))
    page.get_by_role("tab", name="Chart").click()
    expect(page.locator(".result canvas")).to_be_visible()

    page.get_by_role("link", name="Dashboards").click()
    page.get_by_role("link", name="Machines").click()
    number = page.locator(".single strong")
    expect(number).to_have_text(re.compile(r"^[\d,]+$"))
    canvas = page.locator("section[aria-label='Readings a minute'] canvas")
    expect(canvas).to_be_visible()
    before = number.inner_text(), canvas.evaluate("c => c.toDataURL()")

    def moved():
        return number.inner_text() != before[0] and canvas.evaluate("c => c.toDataURL()") != before[1]

    until(moved, "the number and the line to move", 30, every=0.2)


def test_the_pipeline_moves_and_leads_to_a_view(demo, tabs):
    page = tabs.open(f"{demo.url}/#/pipeline")
    topic = page.get_by_role("link", name=re.compile("^topic sensor_data"))
    expect(topic).to_be_visible()
    until(lambda: re.search(r"[1-9][\d,.]*/s", topic.text_content()), "a rate of messages", 30, every=0.2)
    speed = page.get_by_role("link", name=re.compile("^speed")).first
    before = speed.text_content()
    until(lambda: speed.text_content() != before, "the frontier to move", 30, every=0.2)

    page.get_by_role("link", name=re.compile("^view stock_bars")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("stock_bars")
    expect(page.locator("pre.sql .tok-keyword").first).to_have_text("CREATE")
    expect(cell(page, 0, 0)).to_be_visible()
    page.get_by_role("group").filter(has_text="Columns").locator("summary").click()
    expect(page.get_by_role("gridcell", name="volume")).to_be_visible()

    page.get_by_role("button", name="Run now").click()
    page.get_by_role("dialog").get_by_role("button", name="Run now").click()
    expect(page.locator(".note")).to_contain_text(re.compile("published|nothing new|busy|fenced"), timeout=60_000)
    page.get_by_role("button", name="Audit").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Audit").click()
    page.get_by_role("dialog").get_by_role("button", name="Audit").click()
    expect(page.locator(".note")).to_contain_text(re.compile("Both layers agree|nothing to compare"), timeout=60_000)


def test_a_stream_page_shows_partitions_and_rejects(demo, tabs):
    send(demo, "sensor_data", b'{"device": 1')
    page = tabs.open(f"{demo.url}/#/streams/sensor_data")
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    expect(page.get_by_role("row")).to_have_count(5)
    summary = page.get_by_text("Rejects, newest first")
    summary.click()
    expect(page.get_by_role("grid", name="Rejects, newest first")).to_contain_text('{"device": 1')


def test_an_error_is_marked_at_its_place(demo, tabs):
    tabs.allowed = [400]
    page = tabs.open(demo.url)
    ask(page, "SELECT 1;\n\nSELECT site,\n  hotest FROM site_alarms")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("hotest")
    expect(alert).to_contain_text("hottest")
    expect(page.locator(".cm-error-place")).to_have_text("hotest")
    place = page.get_by_role("button", name="line 4, column 3")
    place.click()
    page.keyboard.press("Control+Delete")
    page.keyboard.insert_text("hottest")
    expect(page.locator(".cm-error-place")).to_have_count(0)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("columnheader", name="hottest")).to_be_visible()
    expect(alert).to_have_count(0)
    ask(page, "SELECT '日本語 😀', 1 +, 2")
    expect(page.locator(".cm-error-place")).to_have_text(",")


def test_light_and_dark(demo, tabs):
    page = tabs.open(f"{demo.url}/#/dashboards/demo:prices", color_scheme="dark")

    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = background()
    assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150, dark
    page.emulate_media(color_scheme="light")
    until(lambda: background() != dark, "the page to be light")
    light = background()
    page.get_by_role("button", name="Colours").click()
    page.get_by_role("button", name="Colours").click()
    until(lambda: background() == dark, "the page to be dark by its switch")
    page.reload()
    until(lambda: background() == dark, "the switch to be kept")
    page.keyboard.press("t")
    until(lambda: background() == light, "the page to be as the system has it")


@pytest.mark.parametrize("width", [400, 360])
def test_narrow_pages_do_not_scroll_sideways(demo, tabs, width):
    page = tabs.open(demo.url, viewport={"width": width, "height": 800})
    ask(page, "SELECT * FROM stock_bars ORDER BY minute DESC LIMIT 100")
    expect(cell(page, 0, 0)).to_be_visible()
    assert not scrolls_sideways(page)
    page.get_by_role("tab", name="Chart").click()
    expect(page.locator("canvas")).to_be_visible()
    assert not scrolls_sideways(page)
    for address in PAGES:
        page.goto(f"{demo.url}/{address}")
        expect(page.get_by_text("Loading …")).to_have_count(0)
        expect(page.locator("h1, .cm-content").first).to_be_visible()
        assert not scrolls_sideways(page), address


def test_the_keyboard_is_enough(demo, tabs):
    page = tabs.open(demo.url)
    expect(page.locator(".cm-content")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("SELECT symbol, day FROM stock_days ORDER BY sym")
    # Columns are offered while the name is typed.
    page.keyboard.type("b")
    expect(page.locator(".cm-tooltip-autocomplete")).to_have_count(0)
    page.keyboard.press("Backspace")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete li").first).to_contain_text("symbol")
    page.wait_for_timeout(100)  # CodeMirror takes no key for a choice that has just come up.
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    expect(cell(page, 0, 0)).to_be_visible()
    page.keyboard.press("Escape")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "grid":
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(cell(page, 1, 1)).to_have_class(re.compile("chosen"))
    page.keyboard.press("Control+c")
    assert page.evaluate("navigator.clipboard.readText()") == cell(page, 1, 1).inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="day")).to_be_visible()
    page.keyboard.press("Escape")
    for keys, heading in [("gp", "Pipeline"), ("gd", "Dashboards")]:
        for key in keys:
            page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(cell(page, 0, 0)).to_be_visible()


def test_a_link_holds_the_query_and_does_not_run_it(demo, tabs):
    page = tabs.open(demo.url)
    ask(page, "SELECT 'ü?#&' AS \"a b\"")
    expect(cell(page, 0, 0)).to_have_text("ü?#&")
    page.get_by_role("button", name="Link").click()
    link = page.evaluate("navigator.clipboard.readText()")
    other = tabs.open(link)
    expect(other.get_by_role("textbox", name="SQL", exact=True)).to_contain_text("SELECT 'ü?#&' AS \"a b\"")
    expect(other.locator(".result")).to_have_count(0)
    ask(page, "SELECT 2")
    page.go_back()
    expect(page.get_by_role("textbox", name="SQL", exact=True)).to_contain_text("ü?#&")
    page.get_by_role("button", name="History").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("^SELECT 2")).click()
    expect(page.get_by_role("textbox", name="SQL", exact=True)).to_have_text(re.compile("SELECT 2"))


def test_the_statement_at_the_cursor_or_the_selection_runs(demo, tabs):
    page = tabs.open(demo.url)
    ask(page, "SELECT 1 AS one; SELECT 2 AS two")
    expect(page.get_by_role("columnheader")).to_contain_text("two")
    page.keyboard.press("Home")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("columnheader")).to_contain_text("one")
    page.keyboard.press("End")
    for _ in " AS two":
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+Home")
    page.keyboard.press("Control+Home")
    page.keyboard.press("Shift+ArrowRight")
    tabs.allowed = [400]
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("syntax")


def test_many_rows_and_cancelling(demo, tabs):
    page = tabs.open(demo.url)
    ask(page, "SELECT value, NULL AS nothing FROM generate_series(1, 20000)")
    expect(page.locator(".warning")).to_contain_text("first 10,000 rows")
    expect(cell(page, 0, 1)).to_have_text("NULL")
    assert page.locator(".grid-row").count() < 60
    page.locator(".grid").focus()
    began = time.monotonic()
    page.keyboard.press("Control+End")
    expect(cell(page, 9999, 0)).to_have_text("10000")
    assert time.monotonic() - began < 3
    assert page.locator(".grid-row").count() < 60

    write(page, "SELECT count(*) FROM generate_series(1, 100000000000)")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text(re.compile("running for"))).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("cancelled")
    running = lambda: demo.http.get(f"{demo.url}/v1/process").json()["queries_running"]
    until(lambda: running() == 0, "the server to end the query", 30)


def test_numbers_are_exact(demo, tabs):
    page = tabs.open(demo.url)
    values = ["9223372036854775807", "-9223372036854775808", "18446744073709551615", "9007199254740993"]
    ask(page, "SELECT 9223372036854775807, -9223372036854775807 - 1, arrow_cast('18446744073709551615', 'UInt64'), "
              "[9007199254740993] AS l, CAST('12345678901234567890.123456789' AS DECIMAL(38, 9)) AS d")  # fmt: skip
    for i, value in enumerate([*values[:3], f"[{values[3]}]", "12345678901234567890.123456789"]):
        expect(cell(page, 0, i)).to_have_text(value)
    page.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()").split("\n")[1]
    assert copied.split("\t") == [*values[:3], f"[{values[3]}]", "12345678901234567890.123456789"]
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    text = open(download.value.path(), newline="").read()
    assert text.splitlines()[1] == f"{','.join(values[:3])},[{values[3]}],12345678901234567890.123456789"
    send(demo, "stock_prices", b'{"symbol": "BIG", "ts": "2026-01-01T00:00:00Z", "price": "0.01", "volume": 9007199254740993}')
    ask(page, "SELECT volume FROM stock_bars WHERE symbol = 'BIG'")
    expect(cell(page, 0, 0)).to_have_text(values[3])


def send(demo, topic, value):
    """Produces a message, and waits until answers cover it."""
    placed = []
    producer = Producer({"bootstrap.servers": demo.kafka})
    producer.produce(topic, value, on_delivery=lambda error, message: placed.append((error, message)))
    producer.flush(30)
    error, message = placed[0]
    assert error is None, error

    def covered():
        frontier = demo.sql(f"SELECT count(*) FROM {topic}").frontier[topic]
        return frontier.get(message.partition(), 0) > message.offset()

    until(covered, "the message to be read", 30)


def test_hostile_data_and_names_stay_text(demo, tabs):
    tabs.allowed = [400, 404]
    device = HOSTILE.replace('"', '\\"')
    send(demo, "sensor_data", f'{{"device": "{device}", "site": "{device}", "ts": "2026-01-01T00:00:00Z", "temperature": 1}}'.encode())
    send(demo, "sensor_data", f'{{"device": "{device}"'.encode())
    page = tabs.open(demo.url)

    def unharmed():
        assert page.evaluate("window.hacked") is None
        assert page.locator("img, iframe, object, embed").count() == 0

    quoted = HOSTILE.replace("'", "''")
    alias = HOSTILE.replace('"', '""')
    ask(page, f"SELECT device AS \"{alias}\", minute, readings FROM device_minutes WHERE device = '{quoted}'")
    expect(cell(page, 0, 0)).to_have_text(HOSTILE)
    expect(page.get_by_role("columnheader").first).to_contain_text(HOSTILE)
    unharmed()
    page.get_by_role("tab", name="Chart").click()
    for kind in ["lines", "bars", "one number"]:
        page.get_by_label("Draw").select_option(label=kind)
        expect(page.locator("canvas, .bars, .single").first).to_be_visible()
        unharmed()
    ask(page, f"SELECT \"{alias}\" FROM site_alarms")
    expect(page.get_by_role("alert")).to_contain_text("onerror")
    unharmed()
    page.get_by_role("button", name="History").click()
    expect(page.get_by_role("dialog")).to_contain_text("onerror")
    unharmed()
    page.keyboard.press("Escape")
    for address in ["#/streams/", "#/views/", "#/dashboards/", "#/sql?q=", "#/"]:
        page.goto(f"{demo.url}/{address}{urllib.parse.quote(HOSTILE)}")
        expect(page.locator("main")).to_be_visible()
        unharmed()
    page.goto(f"{demo.url}/#/streams/sensor_data")
    page.get_by_text("Rejects, newest first").click()
    expect(page.get_by_role("grid", name="Rejects, newest first")).to_contain_text("onerror")
    unharmed()
    tile = {"title": HOSTILE, "sql": f"SELECT '{quoted}' AS \"{alias}\", 1 AS n", "x": alias, "y": ["n"], "by": None, "wide": False}
    tiles = [{**tile, "kind": kind} for kind in ("time", "bars", "table", "number")]
    body = {"version": 0, "dashboard": {"title": HOSTILE, "refresh_seconds": 1, "tiles": tiles}}
    assert demo.http.put(f"{demo.url}/v1/dashboards/hostile", json=body).status_code == 200
    page.goto(f"{demo.url}/#/dashboards")
    page.get_by_role("link", name=re.compile("onerror")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator(".bar-label").first).to_contain_text("onerror")
    unharmed()


def test_a_dashboard_with_two_editors(demo, tabs):
    tabs.allowed = [409]
    one = tabs.open(f"{demo.url}/#/dashboards")
    one.get_by_role("button", name="New dashboard").click()
    one.get_by_label("Title").fill("Heat")
    one.get_by_role("button", name="Make it").click()
    one.get_by_role("dialog", name="Save as").get_by_role("button", name="Save").click()
    expect(one.get_by_role("heading", level=1)).to_have_text("Heat")
    two = tabs.open(f"{demo.url}/#/dashboards/heat")

    def add_tile(page, title, sql):
        page.get_by_role("button", name="Edit", exact=True).click()
        page.get_by_role("button", name="Add a tile").click()
        dialog = page.get_by_role("dialog", name="New tile")
        dialog.get_by_label("Title").fill(title)
        dialog.get_by_role("textbox", name="SQL of the tile").click()
        page.keyboard.insert_text(sql)
        dialog.get_by_role("button", name="Try").click()
        dialog.get_by_label("Shows").select_option(label="bars")
        expect(dialog.locator(".bars")).to_be_visible()
        dialog.get_by_role("button", name="Take it").click()
        expect(page.locator(".bars")).to_be_visible()

    sql = "SELECT site, sum(readings) AS readings FROM site_alarms GROUP BY site ORDER BY site"
    add_tile(one, "Mine", sql)
    one.get_by_role("button", name="Save").click()
    expect(one.get_by_text("version 2")).to_be_visible()
    add_tile(two, "Theirs", sql)
    two.get_by_role("button", name="Save").click()
    dialog = two.get_by_role("dialog", name="Somebody else has saved this dashboard")
    dialog.get_by_role("button", name="Save mine under another name").click()
    two.get_by_role("dialog", name="Save as").get_by_role("button", name="Save").click()
    expect(two).to_have_url(re.compile("heat-copy$"))
    expect(two.get_by_role("heading", name="Theirs")).to_be_visible()
    saved = demo.http.get(f"{demo.url}/v1/dashboards/heat").json()
    assert [tile["title"] for tile in saved["dashboard"]["tiles"]] == ["Mine"]
    assert (demo.folder / "thalweg-data/warehouse/dashboards/heat/00000002.json").exists()
    one.get_by_role("button", name="Delete").click()
    one.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(one.get_by_role("heading", level=1)).to_have_text("Dashboards")
    expect(one.get_by_role("link", name=re.compile("heat, version"))).to_have_count(0)
    # One of those that come with the demo is copied, and the copy is changed.
    one.get_by_role("link", name="Prices").click()
    one.get_by_role("button", name="Copy").click()
    one.get_by_role("dialog", name="Save as").get_by_role("button", name="Save").click()
    expect(one.get_by_role("button", name="Edit", exact=True)).to_be_visible()


def test_a_hidden_page_asks_nothing(demo, tabs):
    page = tabs.open(f"{demo.url}/#/pipeline")
    expect(page.locator("svg .node").first).to_be_visible()
    calls = []
    page.on("request", lambda request: calls.append(request.url))
    until(lambda: (page.wait_for_timeout(50), calls)[1], "a call while the page is seen", 20)
    hide = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    page.wait_for_timeout(1500)  # The call under way ends; nothing else can be waited for.
    calls.clear()
    page.wait_for_timeout(3000)
    assert not calls
    page.evaluate(hide, False)
    until(lambda: (page.wait_for_timeout(50), calls)[1], "a call once the page is seen again", 20)


def test_the_token_is_asked_for_and_kept_in_the_tab(tmp_path, tabs):
    tabs.allowed = [401, 403]
    server = Thalweg(tmp_path, environment=TOKENS)
    server.start(ready=False).listening()
    try:
        page = tabs.open(server.url)
        dialog = page.get_by_role("dialog", name="This server asks for a token")
        dialog.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("not one of this server's")
        dialog.get_by_label("Token").fill("may-query")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        expect(cell(ask(page, "SELECT 1 AS one"), 0, 0)).to_have_text("1")
        kept = page.evaluate("[Object.values(sessionStorage).join(), Object.values(localStorage).join(), document.cookie]")
        assert "may-query" in kept[0] and "may-query" not in kept[1] + kept[2], kept
        page.reload()
        expect(cell(ask(page, "SELECT 2 AS two"), 0, 0)).to_have_text("2")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.goto(f"{server.url}/#/dashboards")
        page.get_by_role("button", name="New dashboard").click()
        page.get_by_label("Title").fill("Mine")
        page.get_by_role("button", name="Make it").click()
        page.get_by_role("dialog").get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text("http_admin_token")
        page.get_by_role("button", name="Forget the token").click()
        page.get_by_role("button", name="Give a token").click()
        dialog.get_by_label("Token").fill("may-define")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="New dashboard").click()
        page.get_by_label("Title").fill("Mine")
        page.get_by_role("button", name="Make it").click()
        page.get_by_role("dialog").get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Mine")
        other = tabs.open(server.url)
        expect(other.get_by_role("dialog", name="This server asks for a token")).to_be_visible()
        other.keyboard.press("Escape")
        expect(other.get_by_role("alert").first).to_contain_text("token")
    finally:
        server.close()
