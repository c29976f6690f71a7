"""Ask an OpenAI-compatible endpoint for the replies that the log does not have yet.

Every request ends in one of three ways: its reply is in the log, or it has been tried again for as
long as `llm.patience` says and is listed as failed, or the run was ended before its turn.
"""

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import openai
from filelock import FileLock, Timeout
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_any,
    stop_before_delay,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event
from tqdm import tqdm

from ..errors import AskError
from .log import ReplyLog, log_path, read_log
from .parse import BadReply, Usage, read_completion
from .queries import requests

TRANSIENT = {408, 409, 425, 429}  # and every 5xx
backoff = wait_random_exponential(multiplier=0.5, min=0.2, max=30)


class Trouble(Exception):
    """An attempt failed in a way that may pass; `wait` seconds are what the endpoint asks for."""

    def __init__(self, reason, wait=0.0):
        super().__init__(reason)
        self.wait = wait


class Rejected(Exception):
    """The endpoint will never answer this request."""


class Plan(NamedTuple):
    """What asking about a dataset would send."""

    n_requests: int
    todo: list  # the requests without a reply in the log
    most_usd: float  # what these cost at most, by `llm.price`, replies being as long as allowed


class Outcome(NamedTuple):
    """What asking came to: `failed` holds `(request, reason)`, `retried` counts reasons."""

    n_answered: int
    failed: list
    retried: Counter
    usage: Usage
    usd: float


def plan(params, name, class_names):
    """Return the `Plan` of dataset `name`; nothing is sent."""
    wanted = requests(params, name, class_names)
    answered = {reply.key for reply in read_log(log_path(params, name)) if _is_good(reply.body)}
    todo = [request for request in wanted if request.key not in answered]
    # about four characters are a token
    prompts = sum(len(str(request.body["messages"])) / 4 for request in todo)
    most = Usage(prompt_tokens=round(prompts),
                 completion_tokens=len(todo) * (params.llm.max_tokens or 0))
    return Plan(len(wanted), todo, cost(params, most))


def ask(params, name, class_names):
    """Send every request of dataset `name` that has no reply yet; return the `Outcome`.

    Each reply is on the disk before the next step. Raises `AskError` when the endpoint is not
    configured, refuses the key, has not answered anything, or stops answering.
    """
    if not os.environ.get("OPENAI_API_KEY"):
        raise AskError("OPENAI_API_KEY is not set; set it, and OPENAI_BASE_URL for an endpoint "
                       "other than OpenAI's own (for the server of `make llm` any key will do)")
    lock = params.root / ".work" / f"ask-{name}.lock"
    lock.parent.mkdir(exist_ok=True)
    try:
        with FileLock(lock, timeout=0), ReplyLog(log_path(params, name)) as log:
            return _Run(params, log).send(plan(params, name, class_names).todo, name)
    except Timeout:
        raise AskError(f"another process is asking about {name}; wait for it to end") from None


def cost(params, usage):
    """Return the price in US dollars of `Usage`."""
    price = params.llm.price
    return (usage.prompt_tokens * price.prompt + usage.completion_tokens * price.reply) / 1e6


class _Run:
    """One run of asking; its state is shared by the threads that send."""

    def __init__(self, params, log):
        self.params, self.settings, self.log = params, params.llm, log
        # retries are ours: the client's own neither bound a Retry-After nor look into a body
        self.client = openai.OpenAI(max_retries=0, timeout=self.settings.timeout)
        self.ended = threading.Event()
        self.last_answer = None
        self.troubles, self.usage = [], Usage()

    def send(self, todo, name):
        failed, n_answered = [], 0
        with (ThreadPoolExecutor(self.settings.concurrency) as pool,
              tqdm(desc=f"ask about {name}", total=len(todo), unit="reply") as progress):
            futures = {pool.submit(self._answer, request): request for request in todo}
            try:
                for future in as_completed(futures):
                    try:
                        usage = future.result()
                    except (Trouble, Rejected) as error:
                        failed.append((futures[future], str(error)))
                    else:
                        n_answered += 1
                        self.usage = Usage(
                            prompt_tokens=self.usage.prompt_tokens + usage.prompt_tokens,
                            completion_tokens=self.usage.completion_tokens
                            + usage.completion_tokens)
                    progress.update()
                    progress.set_postfix_str(self._spent())
            finally:  # after Ctrl-C, too, no thread sends anything more
                self.ended.set()
                pool.shutdown(wait=False, cancel_futures=True)
        return Outcome(n_answered, failed, Counter(self.troubles), self.usage,
                       cost(self.params, self.usage))

    def _spent(self):
        tokens = self.usage.prompt_tokens + self.usage.completion_tokens
        return f"{tokens} tokens, ${cost(self.params, self.usage):.2f}"

    def _answer(self, request):
        """Get one reply into the log; return its `Usage`. Raises `Trouble`, `Rejected`, ..."""
        began = time.monotonic()
        retrying = Retrying(
            retry=retry_if_exception_type(Trouble), wait=_wait, reraise=True,
            stop=stop_any(stop_before_delay(self.settings.patience),
                          stop_when_event_set(self.ended)),
            sleep=sleep_using_event(self.ended),
            before_sleep=lambda state: self.troubles.append(str(state.outcome.exception())))
        try:
            completion = retrying(self._attempt, request)
        except Trouble as error:
            if (self.last_answer or 0) < began and not self.ended.is_set():
                raise self._end(
                    f"the endpoint has answered nothing for {self.settings.patience:g} seconds "
                    f"({error}); run this again to go on where it ended") from None
            raise
        self.last_answer = time.monotonic()
        return completion.usage or Usage()

    def _attempt(self, request):
        if self.ended.is_set():
            raise Rejected("the run was ended")
        try:
            response = self.client.chat.completions.with_raw_response.create(
                model=request.body["model"], messages=request.body["messages"],
                extra_body=request.body)
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.APIConnectionError as error:  # time-outs and cut bodies, too
            cause = type(error.__cause__ or error).__name__
            raise Trouble(f"no connection, or it was cut ({cause})") from None
        body = self._without_key(response.http_response.text)
        self.log.append(request, body)
        try:
            return read_completion(body)
        except BadReply as error:
            raise Trouble(str(error)) from None

    def _status_error(self, error):
        """Return the exception for an HTTP status that is not 200."""
        status = error.status_code
        if status in TRANSIENT or status >= 500:
            return Trouble(f"HTTP {status}", _retry_after(error.response.headers))
        text = f"HTTP {status}: {self._without_key(error.response.text)[:200]}"
        if status in (401, 403) or self.last_answer is None:
            return self._end(f"the endpoint refuses the request ({text}); check OPENAI_API_KEY, "
                             "OPENAI_BASE_URL and the block llm of params.yaml")
        return Rejected(text)

    def _end(self, message):
        """End the run: no thread sends anything more; return the error to raise."""
        self.ended.set()
        return AskError(message)

    def _without_key(self, text):
        """Endpoints echo requests; the key must get no further than here."""
        return text.replace(self.client.api_key, "[key]")


def _wait(state):
    """Back off, and at least for as long as the endpoint asks."""
    return max(backoff(state), state.outcome.exception().wait)


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


def _is_good(body):
    try:
        read_completion(body)
    except BadReply:
        return False
    return True
