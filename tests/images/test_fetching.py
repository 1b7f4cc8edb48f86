"""Images by their address: from public servers, within limits of bytes, time and redirects."""

from __future__ import annotations

import socket
import threading
from typing import Any

import anyio
import pytest

from duologue import images
from duologue.errors import BadInput, DeadlineExceeded, ServiceError
from duologue.images import fetching
from duologue.images.addresses import is_public_ip
from duologue.images.limits import ImageRules
from duologue.testing.tls import loopback
from tests.images.samples import as_jpeg
from tests.images.web import OPEN, RULES, answer, web


async def test_an_image() -> None:
    async with web(lambda path: answer(as_jpeg())) as server:
        frame = await images.from_url(f"http://{OPEN}:{server.port}/a%20cat.jpg?size=2", rules=RULES)
    assert (frame.image, frame.mime, frame.width) == (as_jpeg(), "image/jpeg", 64)
    assert server.asked == [(OPEN, f"{OPEN}:{server.port}", "/a%20cat.jpg?size=2")]


async def test_an_image_behind_redirects() -> None:
    def give(path: str) -> bytes:
        return answer(as_jpeg()) if path == "/3" else answer(status="302 Found", location=f"/{int(path[1:]) + 1}")

    async with web(give) as server:
        frame = await images.from_url(f"http://{OPEN}:{server.port}/0", rules=RULES)
        assert frame.image == as_jpeg()
        with pytest.raises(BadInput, match="more than 3 others"):
            await images.from_url(f"http://{OPEN}:{server.port}/-1", rules=RULES)
    assert [path for _, _, path in server.asked] == ["/0", "/1", "/2", "/3", "/-1", "/0", "/1", "/2"]


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "//127.0.0.1:{port}/", "http://[::1]:{port}/",
     "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/",
     "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP", f"http://{OPEN}:99999/", f"http://u:p@{OPEN}:{{port}}/"],
)  # fmt: skip
async def test_a_redirect_to_an_address_that_is_refused(location: str) -> None:
    async with web(lambda path: answer(status="301 Moved", location=location.format(port=server.port))) as server:
        with pytest.raises(BadInput, match=r"not a public address|not a web address|does not exist|user name"):
            await images.from_url(f"http://{OPEN}:{server.port}/", rules=RULES)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "2130706433", "0x7f.1", "127.1", "0", "[::1]", "[::]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0:7f00:1]",
     "0x7f000001", "017700000001", "127。0。0。1", "%31%32%37.0.0.1",
     "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.0.0.1", "192.168.1.1",
     "169.254.169.254", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "224.0.0.1"],
)  # fmt: skip
async def test_addresses_that_are_not_public_are_not_called(host: str) -> None:
    async with web(lambda path: answer(as_jpeg())) as server:
        with pytest.raises(BadInput, match=r"not a public address|has no address"):
            await images.from_url(f"http://{host}:{server.port}/")
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/a.png", "file:///etc/passwd", "http://", "http:///a", "//example.com/a", "cat.png",
     "http://u:p@example.com/", "http://example.com:99999/", "http://example.com:65536/",
     "http://example.com:0/", "javascript:alert(1)", "http://exa mple.com:99999999/", "http://[::1/",
     "data:text/plain,x", "data:image/png;base64,é", "http://example.com/" + "a" * 9_000],
)  # fmt: skip
async def test_what_is_not_a_web_address(url: str) -> None:
    with pytest.raises(BadInput) as raised:
        await images.from_url(url)
    assert len(str(raised.value)) < 400
    assert "u:p" not in str(raised.value)


async def test_a_data_url() -> None:
    frame = await images.from_url("data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
    assert (frame.mime, frame.width) == ("image/jpeg", 1)


async def test_a_name_is_resolved_once_and_the_checked_address_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that gives a private address the second time (DNS rebinding) gains nothing."""
    given = [[OPEN], ["127.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        return given.pop(0)

    monkeypatch.setattr(fetching, "addresses_of", resolve)
    async with web(lambda path: answer(as_jpeg())) as server:
        await images.from_url(f"http://pictures.example:{server.port}/", rules=RULES)
        assert server.asked == [(OPEN, f"pictures.example:{server.port}", "/")]
        with pytest.raises(BadInput, match="not a public address"):
            await images.from_url(f"http://pictures.example:{server.port}/", rules=RULES)
    assert len(server.asked) == 1


async def test_hosts_are_looked_up_in_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names whose server does not answer hold up no other connection: those are looked up by the event loop."""
    threads: list[str] = []

    def look_up(*asked: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(BadInput, match="has no address"):
        await images.from_url("http://slow.example/a.png")
    assert threads == ["duologue image hosts: look up"]


async def test_one_private_address_among_several_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return [OPEN, "10.0.0.1"]

    monkeypatch.setattr(fetching, "addresses_of", resolve)
    async with web(lambda path: answer(as_jpeg())) as server:
        with pytest.raises(BadInput, match=r"pictures\.example: it is not a public address") as raised:
            await images.from_url(f"http://pictures.example:{server.port}/", rules=RULES)
    assert "10.0.0.1" not in str(raised.value)
    assert server.asked == []


async def test_tls_is_checked_for_the_name() -> None:
    async with web(lambda path: answer(as_jpeg()), tls=True) as server:
        rules = ImageRules(networks=("127.0.0.0/8",))
        data, mime = await fetching.fetch(f"https://127.0.0.1:{server.port}/", rules, loopback().client)
        assert (data, mime) == (as_jpeg(), "image/jpeg")
        for host in (OPEN, "127.0.0.1"):
            trusted = loopback().client if host == OPEN else None
            with pytest.raises(ServiceError, match="certificate"):
                await fetching.fetch(f"https://{host}:{server.port}/", rules, trusted)


async def test_a_redirect_from_https_to_http_is_refused() -> None:
    location = f"http://{OPEN}/"
    async with web(lambda path: answer(status="302 Found", location=location), tls=True) as server:
        rules = ImageRules(networks=("127.0.0.0/8",))
        with pytest.raises(BadInput, match="from https to http"):
            await fetching.fetch(f"https://127.0.0.1:{server.port}/", rules, loopback().client)


REFUSED: dict[str, tuple[Any, str]] = {
    "a page": (answer(b"<html>", content_type="text/html"), "text/html"),
    "a page, told to be an image": (answer(b"<html><body>Sign in"), "text/html, though declared as image/jpeg"),
    "a script, told to be nothing": (answer(b"alert(1)", content_type=""), "not an image"),
    "an image, told to be a page": (answer(as_jpeg(), content_type="text/html; charset=utf-8"), "text/html"),
    "not there": (answer(status="404 Not Found"), "answers 404"),
    "no content": (answer(), "empty"),
    "long, as it says": (answer(content_length="40000000"), r"40\.0 MB: at most 1\.0 MB"),
    "long, without saying so": (
        [answer(content_length=""), *[b"\xff\xd8\xff" + bytes(100_000)] * 20], r"at most 1\.0 MB"
    ),
    "compressed": (answer(as_jpeg(), content_encoding="gzip"), "compressed"),
    "cut off": (answer(as_jpeg()[:300], content_length="300"), "damaged or truncated"),
    "a part of nothing": (answer(as_jpeg(), status="206 Partial Content"), "answers 206"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_answers_that_are_refused(name: str) -> None:
    given, problem = REFUSED[name]
    async with web(lambda path: given) as server:
        with pytest.raises(BadInput, match=problem):
            await images.from_url(f"http://{OPEN}:{server.port}/cat.jpg", rules=RULES)


async def test_a_type_of_no_meaning_and_another_image_will_do() -> None:
    for declared in ("", "application/octet-stream", "image/png", "IMAGE/JPEG; q=1", "image/jpg"):
        async with web(lambda path, declared=declared: answer(as_jpeg(), content_type=declared)) as server:  # type: ignore[misc]
            frame = await images.from_url(f"http://{OPEN}:{server.port}/", rules=RULES)
        assert frame.mime == "image/jpeg"


async def test_servers_that_fail() -> None:
    for given in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b"220 smtp.example.com ESMTP\r\n"):
        async with web(lambda path, given=given: given) as server:  # type: ignore[misc]
            with pytest.raises(ServiceError, match="could not be fetched"):
                await images.from_url(f"http://{OPEN}:{server.port}/", rules=RULES)
    with pytest.raises(ServiceError, match="could not be fetched"):
        await images.from_url(f"http://{OPEN}:{server.port}/secret?token=x", rules=RULES)


SLOW: dict[str, list[bytes | float]] = {
    "no answer": [100.0],
    "no body": [answer(content_length="1000"), 100.0],
    "a byte a second": [answer(content_length="1000"), *(b"\xff" if at % 2 else 1.0 for at in range(40))],
}


@pytest.mark.parametrize("name", SLOW)
async def test_a_slow_server(name: str) -> None:
    async with web(lambda path: SLOW[name]) as server:
        start = anyio.current_time()
        with pytest.raises(DeadlineExceeded, match="was not ready within 5 s"):
            await images.from_url(f"http://{OPEN}:{server.port}/", rules=RULES)
        assert anyio.current_time() - start == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2001:4860:4860::8888"])
def test_public_addresses(address: str) -> None:
    assert is_public_ip(address)


@pytest.mark.parametrize(
    "address",
    ["", "example.com", "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1", "192.0.0.192",
     "192.0.2.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
     "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
     "2001::1", "2001:db8::1", "2002:808:808::1", "3fff::1", "fc00::1", "fd00::1", "fe80::1", "fe80::1%lo", "fec0::1",
     "ff02::1", "5f00::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_ip(address)


def test_networks_that_the_application_names() -> None:
    assert is_public_ip("10.1.2.3", ("10.1.0.0/16",))
    assert not is_public_ip("10.2.2.3", ("10.1.0.0/16", "fd00::/8"))
    assert is_public_ip("fd00::1", ("fd00::/8",))
