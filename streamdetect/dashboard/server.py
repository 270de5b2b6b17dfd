"""The web server: where it listens, and who may look."""

from __future__ import annotations

import errno
import hmac
import ipaddress
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.auth_provider import AuthProvider, NullAuth
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.settings import settings
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, RequestHandler

from streamdetect.dashboard.feed import Feed
from streamdetect.dashboard.page import Page
from streamdetect.errors import InputError

_STOP_CHECK_MS = 100
_JOIN_S = 5.0  # how long the feed may take to end: it may be connecting


class TokenAuth(AuthProvider):
    """Let in only those whose address holds the token: the page and its web socket alike.

    Parameters
    ----------
    token : str
        What ``?token=`` in the address must say.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        super().__init__()

    @property
    def get_user_async(self) -> Callable[[RequestHandler], Awaitable[str]]:
        """Check a request, before anything is answered, a web socket's handshake included."""

        async def check(handler: RequestHandler) -> str:
            given = handler.get_argument("token", default="")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                raise HTTPError(403, reason="The address lacks the token that the dashboard printed when it started")
            return "holder of the token"

        return check

    @property
    def get_login_url(self) -> Callable[[RequestHandler], str]:
        """Answer Bokeh's question; nobody is ever sent there."""
        return lambda handler: "/"


class Dashboard:
    """A web server and the feed behind it.

    Parameters
    ----------
    feed : Feed
        What to show.
    port : int
        TCP port; 0 for any that is free.
    address : str
        Address to listen on. Anything but a loopback address needs a token in the URL.

    Attributes
    ----------
    url : str
        What to open in a browser, with the token where there is one.

    Raises
    ------
    InputError
        The port is taken or may not be used, or the address is not this machine's.
    """

    def __init__(self, feed: Feed, *, port: int = 5006, address: str = "127.0.0.1") -> None:
        self._feed = feed
        token = "" if is_loopback(address) else secrets.token_urlsafe(16)
        try:
            listener = socket.create_server((address, port), family=_family(address), backlog=128)
        except OSError as error:
            raise InputError(_explain(error, port, address)) from error
        listener.setblocking(False)
        port = listener.getsockname()[1]

        def open_page(document: Document) -> None:
            Page(document, feed)

        # Who has the token may come by any name of this machine; no page of somebody else's can know it.
        names = ["*"] if token else ["localhost", _host(address)]
        application = BokehTornado(
            {"/": Application(FunctionHandler(open_page))},
            extra_websocket_origins=[f"{name}:{port}" for name in names],
            auth_provider=TokenAuth(token) if token else NullAuth(),
            include_headers=[],
            include_cookies=[],
        )
        settings.resources = "server"  # all that a page needs comes from here: a lab may have no internet
        http_server = HTTPServer(application)
        http_server.add_socket(listener)
        self._server = BaseServer(IOLoop.current(), application, http_server)
        shown = socket.gethostname() if _is_any(address) else _host(address)
        self.url = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop.

        Raises
        ------
        Exception
            Whatever ended the feed.
        """
        loop = self._server.io_loop
        reader = threading.Thread(target=self._feed.run, args=(stop,), name="feed", daemon=True)
        reader.start()

        def check() -> None:
            if stop.is_set() or self._feed.error is not None:
                loop.stop()
            else:
                loop.call_later(_STOP_CHECK_MS / 1000, check)

        self._server.start()
        check()
        try:
            loop.start()
        finally:
            stop.set()
            self._server.stop(wait=False)
            reader.join(_JOIN_S)
        if self._feed.error is not None:
            raise self._feed.error


def is_loopback(address: str) -> bool:
    """Say whether only this machine can reach an address.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("lab-3")
    (True, True, False, False)
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_any(address: str) -> bool:
    return address in ("", "0.0.0.0", "::")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _explain(error: OSError, port: int, address: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: is in use; choose another, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"--port {port}: may not be used without special rights; choose one above 1023"
    if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN):
        return f"--address {address}: is no address of this machine; 127.0.0.1 is this machine alone, 0.0.0.0 all"
    return f"--address {address} --port {port}: {error}"
