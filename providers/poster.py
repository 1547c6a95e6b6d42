"""JSON over HTTP by aiohttp alone: the hot path of the `openai` transport (docs/decisions/0004-openai-transport.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import getproxies, proxy_bypass

from providers.errors import CallTimeout, ConnectionFailed
from providers.hangup import Exchange
from providers.scrub import scrub

if TYPE_CHECKING:
    import ssl

    import aiohttp

__all__ = ["CONNECT_S", "Answer", "Poster"]

CONNECT_S = 15.0
"""Seconds within which a connection must stand."""
_KEEPALIVE_S = 4.0
"""Seconds that an idle connection is kept: uvicorn, and with it vLLM, closes it after 5, and a request that meets that
breaks off, its bill unknown."""


_OK = 200


class Answer(NamedTuple):
    """What a server answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes


class Poster:
    """One address and its pool of connections, made at the first request, in the loop that asks."""

    def __init__(self, base_url: str, headers: Mapping[str, str], *, connections: int, secret: str | None) -> None:
        self._base = base_url.rstrip("/")
        self._shown = base_url
        self._headers = dict(headers)
        self._connections = connections
        self._secret = secret
        self._session: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> Answer:
        """Send a body; raises `CallTimeout` and `ConnectionFailed`, and leaves statuses to the caller.

        `timeout_s` bounds the silence between two reads, as in the SDK; the whole call is bounded by the gateway.
        """
        async with self._posted(path, body, timeout_s) as response:
            return Answer(response.status, response.headers, await response.read())

    async def stream(self, path: str, body: bytes, *, timeout_s: float, feed: Callable[[bytes], None]) -> Answer:
        """Send a body, and feed what comes of an event stream as it comes; any other answer is returned whole.

        Raises as `post` does. A caller that is cancelled still feeds what the server had sent by then; see `Exchange`.
        """
        exchange = Exchange()
        return await exchange.run(self._streamed(path, body, timeout_s, feed, exchange))

    async def _streamed(
        self, path: str, body: bytes, timeout_s: float, feed: Callable[[bytes], None], exchange: Exchange
    ) -> Answer:
        async with self._posted(path, body, timeout_s) as response:
            exchange.begins(response)
            if response.status != _OK or response.content_type != "text/event-stream":
                return Answer(response.status, response.headers, await response.read())
            while data := await response.content.readany():
                feed(data)
            return Answer(response.status, response.headers, b"")

    @asynccontextmanager
    async def _posted(self, path: str, body: bytes, timeout_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a body; raises `ProviderError`s for all that goes wrong until the block ends."""
        import aiohttp

        session = self._session or self._open()
        timeout = self._timeouts.get(timeout_s)
        if timeout is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(timeout_s, CONNECT_S), sock_read=timeout_s)
            self._timeouts[timeout_s] = timeout
        try:
            async with session.post(self._base + path, data=body, timeout=timeout) as response:
                yield response
        except TimeoutError:
            raise CallTimeout(f"{self._shown} did not answer within {timeout_s:g} s.") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = scrub(str(error) or type(error).__name__, self._secret)
            raise ConnectionFailed(f"The connection to {self._shown} failed: {reason}") from None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=_KEEPALIVE_S, ssl=_trusted(self._base)
            ),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self._base),
        )
        return self._session


def _trusted(url: str) -> ssl.SSLContext | bool:
    """Return the certificates that the SDK trusts: those of certifi, or of SSL_CERT_FILE where it is set."""
    import httpx

    return httpx.create_ssl_context() if url.startswith("https:") else True


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address; looked up once, since that scans the environment."""
    from yarl import URL

    place = URL(url)
    proxies = getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(f"{place.host}:{place.port}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
