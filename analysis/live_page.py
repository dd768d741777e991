"""The live page of a run: a local web page that shows how far it is and what it has found, and redraws by itself.

`LivePage` serves it in a thread of its own. The page is the files `live_*` beside this module: `live_charts.js` draws,
`live_page.js` asks for `state.json` every two seconds. Nothing in it comes from elsewhere: it works without a network.

A page on localhost can be reached by every program of this machine, and by every web site that its user has open. So
there is nothing to write to, the page listens on the loopback interface only, and it answers only requests that call it
by its own name: a foreign site whose name was made to point here ("DNS rebinding") sends its own name in `Host`. What is
shown is put into the page as text, never as HTML, and the Content-Security-Policy forbids scripts of any other origin.
"""

import asyncio
import json
import logging
import math
import os
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, RequestHandler

from trila.processors.errors import InputError

__all__ = ["LivePage"]

logger = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"

# Any port: through an SSH tunnel the user's browser has another one than this machine.
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)

_RESOURCES = {
    "/": ("live_page.html", "text/html; charset=utf-8"),
    "/page.css": ("live_page.css", "text/css; charset=utf-8"),
    "/page.js": ("live_page.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("live_charts.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("live_icon.svg", "image/svg+xml"),
}

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for again each time; tornado's ETag makes the answer to an unchanged one empty.
    "Cache-Control": "no-cache",
    "Content-Type": "text/plain; charset=utf-8",
}


class LivePage:
    """Serves the page from entering the context to leaving it.

    Of the state, all keys may be missing; what is not a finite number becomes null, which the page leaves out:

    * `title`, `phase` ("waiting", "reading", "calibrating", "plotting", "failed"), `updated` (ISO 8601);
    * `datasets`: list of `name`, `files_done`, `files_waiting`, `files_skipped`, `events`, `fraction` (0 to 1);
    * `rate_hz`: events per second of the last update;
    * `latency_s`: `last`, `median`, `max` time from the arrival of a file to its updated plot, in seconds;
    * `errors`: list of `time`, `file`, `message`, the newest last;
    * `plots`: list of `name`, `title`, `file` (PNG, relative to `plots`);
    * `series`: by name, `label`, `unit`, `runs` (numbers), `values` and `errors` of each run, `changes` (first run after
      each change);
    * `spectra`: by name, `label` and `unit` of the axis, `edges` (n + 1), `counts` (n).

    Args:
        state: gives what is to be shown. Called in the server's thread, once a request: it must not block, and what it
            returns must not be changed afterwards.
        plots: folder of the plots; only PNG files named in the state are served from it.
        port: to listen on; 0 takes any free one.

    Attributes:
        url: of the page; there once the context is entered.

    Raises:
        InputError: on entering, a port that cannot be had.
    """

    url: str

    def __init__(self, state: Callable[[], Mapping[str, Any]], plots: Path, port: int = 0) -> None:
        self._state = state
        self._plots = plots
        self._port = port

    def __enter__(self) -> Self:
        listening = _listen(self._port)
        self.url = f"http://{_ADDRESS}:{listening.getsockname()[1]}/"
        self._server = HTTPServer(
            _application(self._state, self._plots), max_body_size=65536, body_timeout=10.0
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="live page", daemon=True)
        self._thread.start()
        self._wait_for(self._start(listening))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait_for(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _start(self, listening: socket.socket) -> None:
        self._server.add_socket(listening)

    async def _stop(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


def _listen(port: int) -> socket.socket:
    """A socket on the loopback interface; tornado's own function for it leaves one open where it fails.

    Raises:
        InputError: the port is not one, is taken, or is not for this user.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} is not one; expected 1 to 65535, or 0 for any free one")
    try:
        listening = socket.create_server((_ADDRESS, port), backlog=128)
    except OSError as error:
        raise InputError(
            f"port {port} of {_ADDRESS} cannot be had ({os.strerror(error.errno or 0)}); "
            "give another one, or 0 for any free one"
        ) from error
    listening.setblocking(False)
    return listening


def _application(state: Callable[[], Mapping[str, Any]], plots: Path) -> Application:
    package = resources.files("trila.analysis")
    contents = {
        path: {"content": (package / file).read_bytes(), "kind": kind}
        for path, (file, kind) in _RESOURCES.items()
    }
    return Application(
        [(re.escape(path), _Resource, content) for path, content in contents.items()]
        + [
            (r"/state\.json", _State, {"state": state, "plots": plots}),
            (r"/plots/(.+)", _Plot, {"state": state, "plots": plots}),
        ],
        default_handler_class=_Missing,
        log_function=lambda handler: logger.debug("%d %s", handler.get_status(), handler.request.uri),
    )


class _Page(RequestHandler):
    """What all answers have in common: headers, who may ask and how, and errors as plain text."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        host = self.request.headers.get("Host", "")
        if not _HOST.fullmatch(host):
            raise HTTPError(403, reason="this page is called 127.0.0.1 or localhost; open it by this name")

    def head(self, *args: str) -> None:
        # tornado sends the headers of the same answer, and no body
        self.get(*args)

    def get(self, *args: str) -> None:
        raise HTTPError(404, reason="there is no such page")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        error = kwargs["exc_info"][1]
        self.finish(self._reason if isinstance(error, HTTPError) else f"{type(error).__name__}: {error}")

    def log_exception(self, *info: Any) -> None:
        """Debug only: whoever asked is told, and a page that asks every two seconds would flood the terminal."""
        logger.debug("%s: %r", self.request.uri, info[1])


class _Missing(_Page):
    """Any other path."""


class _Resource(_Page):
    """A file of the package."""

    def initialize(self, content: bytes, kind: str) -> None:
        self._content = content
        self._kind = kind

    def get(self, *args: str) -> None:
        self.set_header("Content-Type", self._kind)
        self.finish(self._content)


class _Live(_Page):
    """What depends on the state."""

    def initialize(self, state: Callable[[], Mapping[str, Any]], plots: Path) -> None:
        self._state = state
        self._plots = plots

    def _plot(self, file: str) -> Path | None:
        """Where a plot is; None if there is none, or if the name or a link leads out of the folder."""
        folder = self._plots.resolve()
        path = (folder / file).resolve()
        inside = path.is_relative_to(folder) and path.suffix == ".png"
        return path if inside and path.is_file() else None


class _State(_Live):
    """`state.json`: the state, each plot with a `version` that changes with its file (null: not drawn yet)."""

    def get(self, *args: str) -> None:
        state = _plain(self._state())
        state["plots"] = [plot | {"version": self._version(plot)} for plot in state.get("plots") or []]
        content = json.dumps(state, allow_nan=False)
        self.set_header("Content-Type", "application/json")
        self.finish(content)

    def _version(self, plot: Mapping[str, Any]) -> str | None:
        path = self._plot(plot["file"])
        # as text: a time in nanoseconds is more than JavaScript's numbers hold
        return None if path is None else str(path.stat().st_mtime_ns)


class _Plot(_Live):
    """One PNG file, if the state names it."""

    def get(self, *args: str) -> None:
        named = {plot["file"] for plot in self._state().get("plots") or []}
        path = self._plot(args[0]) if args[0] in named else None
        if path is None:
            raise HTTPError(404, reason="there is no such plot")
        self.set_header("Content-Type", "image/png")
        self.finish(path.read_bytes())


def _plain(value: Any) -> Any:
    """The value with arrays as lists, and None for what JSON has no number for.

    >>> _plain({"rates": (1, float("nan"))})
    {'rates': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
