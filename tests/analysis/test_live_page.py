"""The live page shows the state it is given, as it changes, to its own user, and does nothing else.

Protected: what requests get (names, methods, `Host`, plots), that numbers without a JSON form arrive as null, and, in a
real browser, that names and messages are text whatever they hold, that the page redraws without a reload, that it says
when the server is gone and goes on when it is back, and that charts are drawn to the scale of their axes.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from trila.analysis.live_page import LivePage
from trila.processors.errors import InputError

NASTY = "/data/<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">.root"
HOSTS = ["127.0.0.1", "localhost", "LOCALHOST:8080", "127.0.0.1:1"]
FOREIGN = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1@evil.example", "192.168.1.2", ""]  # fmt: skip


def png(width: int) -> bytes:
    """A black image, one pixel high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * (width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def write_png(path: Path, width: int, age: float) -> None:
    """An image file that is `age` seconds old."""
    path.write_bytes(png(width))
    then = time.time() - age
    os.utime(path, (then, then))


def ask(page: LivePage, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    """Status, headers and body of the answer; the path goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def plot(file: str) -> dict[str, str]:
    return {"name": file, "title": f"Title of {file}", "file": file}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the plots; beside it a file that is nobody's business."""
    plots = tmp_path / "plots"
    plots.mkdir()
    write_png(plots / "mass.png", 3, age=60.0)
    (tmp_path / "secret.png").write_bytes(b"secret")
    return plots


@pytest.fixture
def state() -> dict[str, Any]:
    return {"title": "a run", "plots": [plot("mass.png")]}


@pytest.fixture
def page(state: dict[str, Any], folder: Path) -> Iterator[LivePage]:
    with LivePage(lambda: state, folder) as page:
        yield page


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.js", "text/javascript"), ("/charts.js", "text/javascript"), ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml"), ("/state.json", "application/json"), ("/plots/mass.png", "image/png")],
)  # fmt: skip
def test_every_answer_is_of_its_kind_and_forbids_what_is_foreign(
    page: LivePage, path: str, kind: str
) -> None:
    status, headers, body = ask(page, path)
    assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers
    head_status, head_headers, nothing = ask(page, path, "HEAD")
    assert (head_status, head_headers["Content-Length"], nothing) == (200, str(len(body)), b"")


def test_nothing_is_loaded_from_elsewhere_or_inline(page: LivePage) -> None:
    html, script, charts, css = (
        ask(page, path)[2].decode() for path in ("/", "/page.js", "/charts.js", "/page.css")
    )
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", html) == ["icon.svg", "page.css", "page.js"]
    assert not re.search(r"<script[^>]*>[^<]|<style|\son\w+=|\sstyle=", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval", script + charts)
    assert "//" not in re.sub(r"(?m)(^|\s)//.*|http://www\.w3\.org/2000/svg", "", script + charts + css)


def test_numbers_without_a_json_form_are_null(page: LivePage, state: dict[str, Any]) -> None:
    state["rate_hz"] = float("inf")
    state["series"] = {"r": {"values": np.array([1.0, np.nan]), "runs": (np.int64(7), 8)}}
    found = json.loads(ask(page, "/state.json")[2])
    assert found["rate_hz"] is None
    assert found["series"] == {"r": {"values": [1.0, None], "runs": [7, 8]}}


def test_an_empty_state_is_one(folder: Path) -> None:
    with LivePage(dict, folder) as page:
        assert json.loads(ask(page, "/state.json")[2]) == {"plots": []}


def test_a_plot_has_the_version_of_its_file(page: LivePage, state: dict[str, Any], folder: Path) -> None:
    state["plots"] = [plot("mass.png"), plot("later.png"), plot("../secret.png")]

    def versions() -> list[str | None]:
        return [found["version"] for found in json.loads(ask(page, "/state.json")[2])["plots"]]

    before = versions()
    assert before[0] == str((folder / "mass.png").stat().st_mtime_ns)
    assert before[1:] == [None, None]
    write_png(folder / "mass.png", 4, age=30.0)
    write_png(folder / "later.png", 4, age=30.0)
    after = versions()
    assert after[0] not in {None, before[0]}
    assert after[1] is not None


def test_an_unchanged_state_is_not_sent_again(page: LivePage, state: dict[str, Any]) -> None:
    tag = ask(page, "/state.json")[1]["Etag"]
    status, _, body = ask(page, "/state.json", **{"If-None-Match": tag})
    assert (status, body) == (304, b"")
    state["title"] = "another"
    assert ask(page, "/state.json", **{"If-None-Match": tag})[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/state.json", "/plots/mass.png", "/nothing"])
def test_there_is_nothing_to_write_to(page: LivePage, method: str, path: str) -> None:
    status, headers, _ = ask(page, path, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/nothing", "/state", "/page.js/", "//", "/plots", "/plots/", "/live_page.py"]
)
def test_other_paths_are_not_found(page: LivePage, path: str) -> None:
    assert ask(page, path)[0] == 404
    assert ask(page, path, "HEAD")[0] == 404


@pytest.mark.parametrize("host", HOSTS)
def test_it_answers_to_its_own_name(page: LivePage, host: str) -> None:
    assert ask(page, "/state.json", Host=host)[0] == 200


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/", "/state.json", "/plots/mass.png", "/nothing"])
def test_it_answers_to_no_other_name(page: LivePage, host: str, path: str) -> None:
    status, _, body = ask(page, path, Host=host)
    assert status in {400, 403}
    assert b"a run" not in body
    if host == "evil.example":
        assert body == b"this page is called 127.0.0.1 or localhost; open it by this name"


def test_a_request_without_host_is_refused(page: LivePage) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(page.url).port), timeout=10) as connection:
        connection.sendall(b"GET /state.json HTTP/1.0\r\n\r\n")
        assert b" 403 " in connection.recv(100)


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "..%2fsecret.png", "%2e%2e/secret.png", "./../secret.png", "%2e%2e%2fsecret.png", "/etc/passwd", "%2Fetc%2Fpasswd", "other.png", "mass.png%00", "link.png", "note.txt", ""],
)  # fmt: skip
@pytest.mark.parametrize("named", [False, True])
def test_only_plots_of_the_state_in_the_folder_are_served(
    page: LivePage, state: dict[str, Any], folder: Path, name: str, named: bool
) -> None:
    """Not even what the state names is served if it is outside of the folder, through a link, or no PNG file."""
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "note.txt").write_text("secret")
    if named:
        state["plots"] = [
            plot(file) for file in ("../secret.png", "./../secret.png", "/etc/passwd", "link.png", "note.txt")
        ]
    else:
        write_png(folder / "other.png", 3, age=0.0)
    status, _, body = ask(page, f"/plots/{name}")
    assert status == 404
    assert b"secret" not in body


def test_plots_may_be_in_folders(page: LivePage, state: dict[str, Any], folder: Path) -> None:
    (folder / "response").mkdir()
    write_png(folder / "response" / "pt 1#.png", 5, age=0.0)
    state["plots"] = [plot("response/pt 1#.png")]
    assert ask(page, "/plots/response/pt%201%23.png?123")[2] == png(5)


def test_what_is_wrong_with_the_state_is_said(folder: Path) -> None:
    answers: list[dict[str, Any]] = [{"title": "well"}]

    def state() -> dict[str, Any]:
        if not answers:
            raise OSError("the ledger is locked")
        return answers[-1]

    with LivePage(state, folder) as page:
        assert ask(page, "/state.json")[0] == 200
        answers.clear()
        status, headers, body = ask(page, "/state.json")
        assert (status, body) == (500, b"OSError: the ledger is locked")
        assert headers["Content-Type"].startswith("text/plain")
        answers.append({"title": "well again"})
        assert json.loads(ask(page, "/state.json")[2])["title"] == "well again"


def test_only_this_machine_can_connect(page: LivePage) -> None:
    """A server on all interfaces would answer on every address of the loopback network."""
    port = urlsplit(page.url).port
    assert page.url == f"http://127.0.0.1:{port}/"
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=1):  # noqa: PT011
        pass


def test_it_ends_and_can_come_back_to_its_port(folder: Path) -> None:
    with LivePage(dict, folder) as page:
        port = urlsplit(page.url).port
        assert port is not None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        connection.getresponse().read()  # and the connection stays open
        with pytest.raises(InputError, match=rf"port {port} of 127\.0\.0\.1 cannot be had \(Address already"):
            LivePage(dict, folder, port).__enter__()
    assert connection.sock.recv(1) == b""  # closed by the server
    connection.close()
    assert "live page" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        ask(page)
    with LivePage(dict, folder, port) as again:
        assert again.url == page.url
        assert ask(again)[0] == 200


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(folder: Path, port: int) -> None:
    with pytest.raises(InputError, match=f"port {port} is not one; expected 1 to 65535, or 0 for any"):
        LivePage(dict, folder, port).__enter__()


# In a browser.

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
]  # fmt: skip
FULL: dict[str, Any] = {
    "title": "jets <b>of</b> 2022",
    "updated": "2026-03-01T12:00:00+00:00",
    "phase": "reading",
    "datasets": [{"name": NASTY, "files_done": 3, "files_waiting": 1, "files_skipped": 2, "events": 1234567, "fraction": 0.5}],
    "rate_hz": 12345.6,
    "latency_s": {"last": 8.3, "median": 9.0, "max": 200.0},
    "errors": [{"time": "2026-03-01T11:00:00+00:00", "file": "old.root", "message": "older"}, {"time": "2026-03-01T11:59:00+00:00", "file": NASTY, "message": NASTY}],
    "plots": [{"name": NASTY, "title": NASTY, "file": "mass.png"}, plot("later.png")],
    "series": {NASTY: {"label": NASTY, "unit": "GeV", "runs": [30, 10, 20, 40], "values": [1.2, 1.0, 1.1, None], "errors": [0.1, 0.1, None, 0.1], "changes": [30]}},
    "spectra": {NASTY: {"label": NASTY, "unit": "GeV", "edges": [0, 1, 2, 3, 4, 5], "counts": [0, 1000, 0, 10, 100]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium, driven through the system's chromedriver."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs a browser: Debian's packages chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as found:
        yield found


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 15.0
    while not what():
        assert time.monotonic() < end, "the page does not show it"
        time.sleep(0.1)


def text(browser: Any, selector: str) -> str:
    """What a reader sees there."""
    found = browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
    return str(found)


def texts(browser: Any, selector: str) -> list[str]:
    """What is written in all such elements of a chart."""
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    return list(browser.execute_script(script, selector))


def numbers(browser: Any, selector: str, *attributes: str) -> list[list[float]]:
    """Attributes of all such elements."""
    rows = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => arguments[1].map((a) => e.getAttribute(a)))",
        selector,
        list(attributes),
    )
    return [[float(value) for value in row] for row in rows]


def shown(browser: Any, page: LivePage) -> None:
    """Open the page and wait for the first state."""
    browser.get(page.url)
    wait_for(lambda: text(browser, "#figures") != "")


@pytest.mark.slow
def test_all_is_shown_and_as_text(browser: Any, folder: Path) -> None:
    with LivePage(lambda: FULL, folder) as page:
        shown(browser, page)
        wait_for(lambda: browser.execute_script("return document.images[0].complete"))
        assert browser.title == "jets <b>of</b> 2022"
        assert text(browser, "#phase") == "reading"
        assert [text(browser, f"#figures div:nth-child({i}) dd") for i in (1, 2, 3, 4)] == [
            "1\u202f234\u202f567",
            "3 of 6",
            "12.3 kHz",
            "8.3 s",
        ]
        assert text(browser, "#figures div:nth-child(4) .note") == "median 9 s, longest 3 min"
        assert text(browser, "#errors li:first-child code") == NASTY  # the newest
        assert text(browser, "#errors li:first-child p") == NASTY
        assert text(browser, "#errors li:last-child p") == "older"
        assert text(browser, "#datasets tbody th") == NASTY
        assert text(browser, "#datasets .processed").strip() == "50%"
        assert text(browser, "#plots figcaption") == NASTY
        assert f"{NASTY} [GeV]" in texts(browser, "#series text.label")
        assert f"{NASTY} [GeV]" in texts(browser, "#spectra text.label")
        assert browser.execute_script("return document.scripts.length") == 1
        # the plot that is not drawn yet is left out
        assert browser.execute_script("return [...document.images].map((i) => i.naturalWidth)") == [3]
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
        assert all(name.startswith(page.url) for name in loaded)
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True},
        )
        shown(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert browser.get_log("browser") == []


@pytest.mark.slow
def test_an_empty_state_is_shown_without_complaint(browser: Any, folder: Path) -> None:
    nothing = {"label": "mass", "unit": "GeV"}
    states: list[dict[str, Any]] = [
        {},
        {"spectra": {"s": nothing | {"edges": [], "counts": []}}, "series": {"r": nothing}, "datasets": []},
    ]
    for state in states:
        with LivePage(lambda state=state: state, folder) as page:
            shown(browser, page)
            assert text(browser, "#figures div:nth-child(2) dd") == "0 of 0"
            assert browser.title == "trila watch"
            if state:
                wait_for(lambda: "no events yet" in text(browser, "#spectra"))
                assert "no run has enough entries yet" in text(browser, "#series")
            assert browser.get_log("browser") == []


@pytest.mark.slow
def test_the_page_follows_the_state_without_a_reload(browser: Any, folder: Path) -> None:
    now = [FULL]

    def state() -> dict[str, Any]:
        if not now:
            raise OSError("the ledger is <i>locked</i>")
        return now[0]

    def width() -> int:
        return int(browser.execute_script("return document.images[0].naturalWidth"))

    with LivePage(state, folder) as page:
        shown(browser, page)
        browser.execute_script("window.neverReloaded = document.images[0]")
        now[0] = FULL | {"phase": "failed", "errors": [{"file": "new.root", "message": "is new"}]}
        wait_for(lambda: text(browser, "#phase") == "failed")
        assert text(browser, "#errors li").split() == ["new.root", "is", "new"]
        write_png(folder / "mass.png", 9, age=10.0)
        wait_for(lambda: width() == 9)
        now.clear()
        wait_for(lambda: "OSError: the ledger is <i>locked</i>" in text(browser, "#connection"))
        assert text(browser, "#phase") == "failed"  # the last state stays
        now.append(FULL)
        wait_for(lambda: text(browser, "#connection") == "")
        assert text(browser, "#phase") == "reading"
        assert browser.execute_script("return window.neverReloaded === document.images[0]")
    browser.get_log("browser")


@pytest.mark.slow
def test_a_lost_connection_is_said_and_found_again(browser: Any, folder: Path) -> None:
    with LivePage(lambda: FULL, folder) as page:
        shown(browser, page)
        browser.execute_script("window.neverReloaded = true")
    wait_for(lambda: re.fullmatch(r"connection lost since \d\d:\d\d:\d\d", text(browser, "#connection")))
    since = text(browser, "#connection")
    assert text(browser, "#phase") == "reading"
    time.sleep(2.5)
    assert text(browser, "#connection") == since
    with LivePage(lambda: FULL | {"phase": "plotting"}, folder, urlsplit(page.url).port or 0):
        wait_for(lambda: text(browser, "#phase") == "plotting")
        assert text(browser, "#connection") == ""
        assert browser.execute_script("return window.neverReloaded")
    browser.get_log("browser")


@pytest.mark.slow
def test_charts_are_drawn_to_the_scale_of_their_axes(browser: Any, folder: Path) -> None:
    """Positions of points and steps, read back with the positions and texts of the ticks, are the values."""
    with LivePage(lambda: FULL, folder) as page:
        shown(browser, page)

        def scale(section: str, axis: str) -> tuple[np.ndarray, np.ndarray]:
            """Values of the named ticks and where they are: the texts stand 5 units below their ticks in y."""
            labels = f"#{section} svg text.{axis}"
            where = np.array(numbers(browser, labels, axis))[:, 0] - (5.0 if axis == "y" else 0.0)
            return np.array([float(name) for name in texts(browser, labels)]), where

        # against run: sorted, in their places, the run without a value left out
        values, y = scale("series", "y")
        runs, x = scale("series", "x")
        assert runs.tolist() == [10, 20, 30]
        points = np.array(numbers(browser, "#series circle", "cx", "cy"))
        assert points[:, 0] == pytest.approx(x, abs=0.02)
        to_value = np.polynomial.Polynomial.fit(y, values, 1)
        assert to_value(points[:, 1]) == pytest.approx([1.0, 1.1, 1.2], abs=1e-4)
        bars = np.array(numbers(browser, "#series .point line", "x1", "y1", "y2"))
        assert bars[:, 0] == pytest.approx(x[[0, 2]], abs=0.02)
        assert to_value(bars[:, 1:]) == pytest.approx(np.array([[0.9, 1.1], [1.1, 1.3]]), abs=1e-4)
        (change,) = numbers(browser, "#series .change", "x1", "x2")
        assert change == pytest.approx([x[1:].mean()] * 2, abs=0.02)

        # the spectrum: from the first bin with events to the last, a logarithm upwards
        values, y = scale("spectra", "y")
        edges, x = scale("spectra", "x")
        path = browser.execute_script("return document.querySelector('#spectra .steps').getAttribute('d')")
        ups = [float(found) for found in re.findall(r"V([\d.]+)", path)]
        rights = [float(found) for found in re.findall(r"H([\d.]+)", path)]
        to_count = np.polynomial.Polynomial.fit(y, np.log10(values), 1)
        bottom = ups[-1]
        assert ups[1] == bottom
        assert to_count(np.array(ups)[[0, 2, 3]]) == pytest.approx([3.0, 1.0, 2.0], abs=1e-3)
        to_mass = np.polynomial.Polynomial.fit(x, edges, 1)
        assert to_mass(np.array(rights)) == pytest.approx([2.0, 3.0, 4.0, 5.0], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "label", "value"),
    [(1.0, "rate [Hz]", "2"), (1e6, "rate [Hz] (×10⁶)", "2000000"), (1e-6, "rate [Hz] (×10⁻⁶)", "0.000002")],
)
def test_long_numbers_are_in_powers_of_1000(
    browser: Any, folder: Path, factor: float, label: str, value: str
) -> None:
    rate = {"label": "rate", "unit": "Hz", "runs": [1, 2], "values": [2.0 * factor, 4.0 * factor]}
    with LivePage(lambda: {"series": {"rate": rate | {"errors": [0.0, 0.0]}}}, folder) as page:
        shown(browser, page)
        assert texts(browser, "#series text.label") == ["run", label]
        assert {"2.0", "3.0", "4.0"} <= set(texts(browser, "#series text.y"))
        assert texts(browser, "#series title")[0] == f"run 1: {value} ± 0 [Hz]"
