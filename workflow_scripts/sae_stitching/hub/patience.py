"""Patience with a hub that is unwell: every request of the hub's client, tried again and resumed.

The client's own retries differ from request to request: some have none, some no limit of time, and
a reset connection ends a download. Here all are alike, in one place, and what comes out in the end
says how it went wrong. Importing this needs the hub's client.
"""

import email.utils
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils import parse_ratelimit_headers
from huggingface_hub.utils._http import default_client_factory

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds before each further try of a request."""
LONGEST_WAIT = 600.0
"""Seconds that a hub may ask to be left alone (Retry-After), at most."""
STALL = 30.0
"""Seconds without a byte after which a connection is given up."""
PROGRESS = 8 << 20
"""Bytes of a download after which its tries are counted anew."""

# What passes by itself, besides every status from 500 on.
_PASSING = (408, 425, 429)
_FAILURES = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


class Unwell(Exception):
    """What a hub said last that was asked in vain, however often.

    Attributes
    ----------
    status
        Of its answer; None where there was none.
    """

    def __init__(self, said: str, status: int | None = None) -> None:
        super().__init__(said)
        self.status = status


@contextmanager
def patient() -> Iterator[None]:
    """Make all requests of the hub's client patient ones, for as long as the block lasts."""
    set_client_factory(_Client)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)


class _Tries:
    """How often one thing was tried."""

    def __init__(self) -> None:
        self.n = 0

    def again(self, what: str, said: str, status: int | None = None, wait: float = 0.0) -> None:
        """Wait before the next try, or raise `Unwell` if there is none."""
        if self.n == len(WAITS):
            raise Unwell(f"{said}, {self.n + 1} times", status)
        if wait > LONGEST_WAIT:
            raise Unwell(f"{said}, and asks to wait {wait:.0f} seconds", status)
        wait = max(wait, WAITS[self.n])
        self.n += 1
        logger.info("%s: %s; trying again in %.0f s", what, said, wait)
        time.sleep(wait)


class _Client(httpx2.Client):
    """The hub's client, patient."""

    def __init__(self) -> None:
        default = default_client_factory()
        hooks, follow = default.event_hooks, default.follow_redirects
        super().__init__(event_hooks=hooks, follow_redirects=follow, timeout=STALL)
        default.close()

    def send(self, request: httpx2.Request, *, stream: bool = False, **how: Any) -> httpx2.Response:
        if request.url.path.endswith("/api/agent-harnesses"):
            # What the client wants to know for its statistics; it does without.
            raise httpx2.ConnectError("not asked for", request=request)
        limits = request.extensions.get("timeout") or {}
        # No limit is what most requests of the hub's client have.
        parts = ("connect", "read", "write", "pool")
        limits = {part: limits.get(part) or STALL for part in parts}
        request.extensions = {**request.extensions, "timeout": limits}
        if stream and request.method == "GET":
            # What is packed on the way cannot be gone on with where it broke.
            request.headers["Accept-Encoding"] = "identity"
        response = self._answer(request, _Tries(), stream=stream, **how)
        if stream and request.method == "GET" and "Range" not in request.headers:
            response.stream = _Resumed(self, request, response, how)
        return response

    def _answer(self, request: httpx2.Request, tries: _Tries, **how: Any) -> httpx2.Response:
        # Without the query, in which a signature may be.
        what = f"{request.method} {request.url.copy_with(query=None)}"
        while True:
            try:
                response = super().send(request, **how)
            except _FAILURES as error:
                tries.again(what, describe(error))
                continue
            status = response.status_code
            if status < 500 and status not in _PASSING:
                return response
            response.close()
            said = f"HTTP {status} {response.reason_phrase}".strip()
            tries.again(what, said, status, _asked_to_wait(response))


class _Resumed(httpx2.SyncByteStream):
    """The body of an answer that goes on where a connection broke."""

    def __init__(
        self, client: _Client, request: httpx2.Request, first: httpx2.Response, how: dict[str, Any]
    ) -> None:
        self._client, self._request, self._how = client, request, how
        self._response = first
        self._stream: Any = first.stream  # typed as if it could be an asynchronous one

    def __iter__(self) -> Iterator[bytes]:
        tries, received, counted = _Tries(), 0, 0
        what = f"GET {self._request.url.copy_with(query=None)}"
        # Some pack it all the same.
        whole = "Content-Encoding" not in self._response.headers
        while True:
            try:
                for part in self._stream:
                    received += len(part)
                    yield part
                return
            except _FAILURES as error:
                if not whole:
                    raise Unwell(describe(error)) from error
                if received - counted >= PROGRESS:
                    tries, counted = _Tries(), received
                self._stream.close()
                tries.again(what, f"{describe(error)} after {received:,} bytes")
            headers = httpx2.Headers(self._request.headers)
            headers["Range"] = f"bytes={received}-"
            request = self._client.build_request(
                "GET", self._request.url, headers=headers, extensions=self._request.extensions
            )
            response = self._client._answer(request, tries, stream=True, **self._how)
            given = response.headers.get("Content-Range", "")
            if response.status_code != 206 or not given.startswith(f"bytes {received}-"):
                response.close()
                raise Unwell(f"HTTP {response.status_code} where the rest was asked for")
            self._response, self._stream = response, response.stream

    def close(self) -> None:
        self._stream.close()


def describe(error: Exception) -> str:
    """What went wrong with a connection, in a few words."""
    said = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {said}" if said else name


def _asked_to_wait(response: httpx2.Response) -> float:
    """Seconds that the hub asks to wait for, which Retry-After may say as a time of day; else 0."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds + 1.0
    value = response.headers.get("Retry-After", "").strip()
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0
