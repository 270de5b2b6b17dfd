"""Who may look, and from where."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

from streamdetect.dashboard.feed import Feed
from streamdetect.dashboard.server import Dashboard, is_loopback
from streamdetect.errors import InputError

pytestmark = pytest.mark.usefixtures("lsl")


@pytest.fixture(scope="module")
def feed(lsl):
    return Feed("nobody")


@pytest.fixture
def serve(feed):
    """Start dashboards, each on a loop of its own, and return their addresses."""
    running = []

    def start(**options):
        url, stop, ready = [], threading.Event(), threading.Event()

        def run():
            loop = IOLoop(make_current=True)
            dashboard = Dashboard(feed, port=0, **options)
            url.append(dashboard.url)
            ready.set()
            dashboard.run(stop)
            loop.close(all_fds=True)

        thread = threading.Thread(target=run)
        thread.start()
        running.append((stop, thread))
        assert ready.wait(30.0)
        return url[0]

    yield start
    for stop, thread in running:
        stop.set()
        thread.join(30.0)
        assert not thread.is_alive()


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=30.0) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def handshake_of(url, origin):
    """Return the status of a web socket's handshake: 101 where it is accepted."""

    async def connect():
        request = HTTPRequest(url.replace("http://", "ws://"), headers={"Origin": origin})
        try:
            connection = await websocket_connect(request, subprotocols=["bokeh", "x"])
        except HTTPClientError as error:
            return error.code
        connection.close()
        return 101

    loop = IOLoop(make_current=False)
    try:
        return loop.run_sync(connect)
    finally:
        loop.close(all_fds=True)


def split(url):
    parts = urllib.parse.urlsplit(url)
    return f"http://127.0.0.1:{parts.port}", parts.query


def test_on_this_machine_alone_no_token_is_needed(serve):
    url = serve()
    base, query = split(url)
    assert (url, query) == (f"{base}/", "")
    assert status_of(url) == 200
    assert handshake_of(f"{base}/ws", base) == 101
    assert handshake_of(f"{base}/ws", base.replace("127.0.0.1", "localhost")) == 101


def test_a_page_from_elsewhere_cannot_open_the_socket(serve):
    base, _ = split(serve())
    assert handshake_of(f"{base}/ws", "http://evil.example") == 403
    assert handshake_of(f"{base}/ws", base.replace("127.0.0.1", "evil.example")) == 403


def test_on_all_addresses_page_and_socket_need_the_token(serve):
    url = serve(address="0.0.0.0")
    base, query = split(url)
    assert len(query) > len("token=") + 20
    assert url.startswith(f"http://{socket.gethostname()}:")
    for path in ("/", "/?token=", "/?token=wrong", "/autoload.js?bokeh-autoload-element=x", "/metadata"):
        assert status_of(base + path) == 403, path
    assert status_of(f"{base}/?{query}") == 200
    assert handshake_of(f"{base}/ws", base) == 403
    assert handshake_of(f"{base}/ws?token=wrong", base) == 403
    assert handshake_of(f"{base}/ws?{query}", base.replace("127.0.0.1", "lab-3")) == 101


def test_the_page_takes_nothing_from_the_internet(serve):
    with urllib.request.urlopen(serve(), timeout=30.0) as answer:
        page = answer.read().decode()
    assert "static/js/bokeh.min.js" in page
    assert "cdn" not in page.lower()
    assert "https://" not in page


def test_each_start_has_a_token_of_its_own(serve):
    assert split(serve(address="0.0.0.0"))[1] != split(serve(address="0.0.0.0"))[1]


def test_a_port_or_an_address_that_cannot_be_had_is_said_in_one_line(feed):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"^--port {port}: is in use; choose another, or 0"):
            Dashboard(feed, port=port)
    for address in ("192.0.2.1", "no such host"):
        with pytest.raises(InputError, match=f"^--address {address}: is no address of this machine; "):
            Dashboard(feed, port=0, address=address)


@pytest.mark.parametrize(
    ("address", "alone"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("", False), ("::", False)],
)
def test_what_only_this_machine_reaches(address, alone):
    assert is_loopback(address) is alone
