"""The endpoint that the environment names: one request, limited in time and size."""

import asyncio
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.request import getproxies

import httpx2
import openai
from tqdm import tqdm

from ..errors import AskError
from .adapt import adapted, notes, refused
from .clean import clean_body, one_line, printable
from .completion import BadReply, is_stream, put_together

LARGEST = 1_000_000  # bytes of a response, unpacked
TRANSIENT = {408, 409, 425, 429}  # and every 5xx


class Trouble(Exception):
    """An attempt failed in a way that may pass; the endpoint asks to wait `wait` seconds."""

    def __init__(self, reason, wait=0.0):
        super().__init__(reason)
        self.wait = wait


class Rejected(Exception):
    """The endpoint will never answer this request; `status` is the HTTP status, if that is why.

    `text` is the endpoint's message.
    """

    def __init__(self, reason, status=None, text=""):
        super().__init__(reason)
        self.status, self.text = status, text


class Answer(NamedTuple):
    """The body of a response, and the `changes` that the endpoint made necessary (see `adapt`)."""

    body: str
    changes: dict


class Endpoint:
    """An OpenAI-compatible endpoint. An async context manager.

    Raises `AskError` if the environment names an address or a proxy that cannot be used.
    """

    def __init__(self, timeout):
        self.timeout, self.changes = timeout, {}
        for kind, proxy in getproxies().items():
            scheme = proxy.partition("://")[0]
            if kind in ("http", "https", "all") and "://" in proxy \
                    and scheme.lower() not in ("http", "https"):
                raise AskError(f"{kind.upper()}_PROXY names a {scheme} proxy; only http:// and "
                               "https:// proxies can be used: change it, or unset it")
        try:
            # retries are ours: the client's own neither limit a Retry-After nor look into a body;
            # so is the time limit, as the client's own starts again at every byte
            self.client = openai.AsyncOpenAI(max_retries=0, timeout=None,
                                             http_client=_BoundedClient(timeout=None))
        except (ValueError, httpx2.InvalidURL) as error:
            raise AskError("OPENAI_BASE_URL or a proxy of the environment (HTTPS_PROXY, "
                           f"HTTP_PROXY, ALL_PROXY) is not an address ({error}); correct it") \
                from None
        if not (self.client.api_key.isascii() and self.client.api_key.isprintable()):
            raise AskError("OPENAI_API_KEY holds characters that no key has; set it again")
        if self.client.base_url.scheme not in ("http", "https"):
            raise AskError(f"OPENAI_BASE_URL is {str(self.client.base_url)!r}; it must begin with "
                           "http:// or https://")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.client.close()

    async def answer(self, body):
        """Return the `Answer` to a request; raises `Trouble`, `Rejected` or `AskError`.

        A parameter that the endpoint refuses is left out or renamed, also in later requests once a
        request has been accepted that way.
        """
        changes = self.changes.copy()
        while True:
            try:
                answer = await self._post(adapted(body, changes))
            except Rejected as error:
                more = error.status in (400, 422) and refused(error.text, body, changes)
                if not more:
                    raise
                changes |= more
            else:
                new = {name: other for name, other in changes.items()
                       if self.changes.get(name, name) != other}
                self.changes |= new
                for note in notes(new):
                    tqdm.write(note)
                return Answer(answer, {name: other for name, other in changes.items()
                                       if name in body})

    async def _post(self, body):
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.client.chat.completions.with_raw_response.create(
                    model=body["model"], messages=body["messages"], extra_body=body)
        except TimeoutError:
            raise Trouble(f"no whole reply within {self.timeout:g} seconds (llm.timeout)") from None
        except openai.APIStatusError as error:
            raise self._status_error(error.response) from None
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, (AskError, Rejected)):
                raise error.__cause__ from None
            cause = type(error.__cause__ or error).__name__
            raise Trouble(f"no connection, or it was cut ({cause})") from None
        try:
            text = response.http_response.content.decode("utf-8-sig")
            text = put_together(text) if is_stream(text) else text
        except UnicodeDecodeError:
            raise Trouble("a reply that is not valid UTF-8") from None
        except BadReply as error:
            raise Trouble(clean_body(str(error), self.client.api_key)) from None
        return clean_body(text, self.client.api_key)

    def _status_error(self, response):
        """Return the exception for an HTTP status that is not 200."""
        status = response.status_code
        if status in TRANSIENT or status >= 500:
            return Trouble(f"HTTP {status}", _retry_after(response.headers))
        text = clean_body(response.content.decode(errors="replace"), self.client.api_key)
        return Rejected(f"HTTP {status}: {one_line(text)}", status, text)


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """Reads every response to its end, or to the size limit, before passing it on.

    Follows redirects within the endpoint only. Raises `Rejected` and `AskError`.
    """

    def __init__(self, **settings):
        super().__init__(headers={"Accept-Encoding": "gzip"},
                         event_hooks={"response": [_stay_here]}, **settings)

    async def send(self, request, *, stream=False, **options):
        response = await super().send(request, stream=True, **options)
        try:
            content = await _read(response)
        finally:
            await response.aclose()
        headers = {name: value for name, value in response.headers.items()
                   if name in ("content-type", "retry-after")}
        return httpx2.Response(response.status_code, headers=headers, content=content,
                               request=request)


async def _stay_here(response):
    """Refuse a redirect to another host, which would receive the request."""
    if response.has_redirect_location:
        try:
            here, there = response.request.url, response.request.url.join(
                response.headers["location"])
        except httpx2.InvalidURL:
            raise AskError("the endpoint redirects to something that is not an address; correct "
                           "OPENAI_BASE_URL") from None
        if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
            address = one_line(printable(f"{there.scheme}://{there.netloc.decode('ascii')}"))
            raise AskError(f"the endpoint redirects to another host, {address}, which is not "
                           "followed; if that is the right one, set OPENAI_BASE_URL to it")


async def _read(response):
    """Return a response's unpacked content; that of an error may be cut at the size limit.

    Raises `Rejected` for a reply that is too large or packed in a way that was not requested.
    """
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32) if coding in ("gzip", "deflate") else None
    if unpacker is None and coding != "identity":
        raise Rejected(f"a reply packed as {one_line(printable(coding), 20)!r}, which was not "
                       "requested")
    content = bytearray()
    async for piece in response.aiter_raw():
        try:  # never unpacks more at once than is allowed in total
            content += unpacker.decompress(piece, LARGEST + 1) if unpacker else piece
        except zlib.error:
            raise Rejected(f"a reply that is not {coding}, though its header says so") from None
        if len(content) > LARGEST:
            if response.is_success:
                raise Rejected(f"a reply of more than {LARGEST / 1e6:g} MB")
            break
    return bytes(content[:LARGEST])


def _retry_after(headers):
    """Return the seconds that a Retry-After header asks to wait; 0 without one."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
