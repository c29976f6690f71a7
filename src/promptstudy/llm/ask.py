"""Ask an OpenAI-compatible endpoint for the replies that the log does not have yet.

Every request ends in one of three ways: its reply is in the log, it has been retried for as long as
`llm.patience` allows and is listed as failed, or the run ended before its turn. Requests are
coroutines of one thread, so ending the run ends them, whatever they are waiting for.
"""

import asyncio
import os
import time
from collections import Counter
from typing import NamedTuple

from filelock import FileLock, Timeout
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)
from tqdm import tqdm

from ..errors import AskError
from ..params import Params
from .completion import BadReply, Completion, Usage, read_completion
from .endpoint import Endpoint, Rejected, Trouble
from .log import ReplyLog, log_path, read_log
from .queries import Request, requests

backoff = wait_random_exponential(multiplier=0.5, min=0.2, max=30)


class Estimate(NamedTuple):
    """What asking about a dataset would send."""

    n_requests: int
    todo: list  # the requests without a reply in the log
    most_usd: float  # their greatest cost by `llm.price`, if replies are as long as allowed


class Outcome(NamedTuple):
    """The outcome of asking: `failed` holds `(request, reason)`, `retried` counts reasons."""

    n_answered: int
    failed: list
    retried: Counter
    usage: Usage
    usd: float


def estimate(params: Params, name: str, class_names: list[str]) -> Estimate:
    """Return the `Estimate` for dataset `name`; nothing is sent."""
    wanted = requests(params, name, class_names)
    answered = {reply.key for reply in read_log(log_path(params, name)) if _is_good(reply.body)}
    todo = [request for request in wanted if request.key not in answered]
    # about four characters per token
    prompts = sum(len(str(request.body["messages"])) / 4 for request in todo)
    most = Usage(prompt_tokens=round(prompts),
                 completion_tokens=len(todo) * (params.llm.max_tokens or 0))
    return Estimate(len(wanted), todo, cost(params, most))


def ask(params: Params, name: str, class_names: list[str]) -> Outcome:
    """Send every request of dataset `name` that has no reply yet; return the `Outcome`.

    Each reply is on disk before the next step. Raises `AskError` when the endpoint is not
    configured, refuses the key, has not answered anything, or stops answering.
    """
    if not os.environ.get("OPENAI_API_KEY"):
        raise AskError("OPENAI_API_KEY is not set; set it, and OPENAI_BASE_URL for an endpoint "
                       "other than OpenAI's own (for the server of `make llm` any key will do)")
    lock = params.root / ".work" / f"ask-{name}.lock"
    lock.parent.mkdir(exist_ok=True)
    try:
        with FileLock(lock, timeout=0), ReplyLog(log_path(params, name)) as log:
            todo = estimate(params, name, class_names).todo  # others have written until now
            return asyncio.run(_Run(params, log).send(todo, name))
    except Timeout:
        raise AskError(f"another process is asking about {name}; wait for it to end") from None


def cost(params: Params, usage: Usage) -> float:
    """Return the price in US dollars of `Usage`."""
    price = params.llm.price
    return (usage.prompt_tokens * price.prompt + usage.completion_tokens * price.reply) / 1e6


class _Run:
    """One run of asking."""

    def __init__(self, params: Params, log: ReplyLog) -> None:
        self.params, self.settings, self.log = params, params.llm, log
        self.last_answer: float | None = None
        self.failed: list[tuple[Request, str]] = []
        self.troubles: list[str] = []
        self.usages: list[Usage] = []

    async def send(self, todo: list[Request], name: str) -> Outcome:
        """Return the `Outcome` of sending the requests `todo`."""
        waiting = iter(todo)
        with tqdm(desc=f"ask about {name}", total=len(todo), unit="reply") as progress:
            async with Endpoint(self.settings.timeout) as self.endpoint:
                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(min(self.settings.concurrency, len(todo))):
                            group.create_task(self._work(waiting, progress))
                except BaseExceptionGroup as errors:  # the first one has cancelled the others
                    raise errors.exceptions[0] from None
        return Outcome(len(self.usages), self.failed, Counter(self.troubles), self._usage(),
                       cost(self.params, self._usage()))

    async def _work(self, waiting, progress):
        """Send one request after another, always the next that no other coroutine has taken."""
        for request in waiting:
            try:
                self.usages.append(await self._answer(request))
            except (Trouble, Rejected) as error:
                self.failed.append((request, str(error)))
            usage = self._usage()
            progress.update()
            progress.set_postfix_str(f"{usage.prompt_tokens + usage.completion_tokens} tokens, "
                                     f"${cost(self.params, usage):.2f}")

    def _usage(self):
        return Usage(prompt_tokens=sum(usage.prompt_tokens for usage in self.usages),
                     completion_tokens=sum(usage.completion_tokens for usage in self.usages))

    async def _answer(self, request):
        """Get one reply into the log; return its `Usage`. Raises `Trouble`, `Rejected`, ..."""
        began = time.monotonic()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Trouble), wait=_wait, reraise=True,
            stop=stop_before_delay(self.settings.patience),
            before_sleep=self._note)
        try:
            completion: Completion = await retrying(self._attempt, request)
        except Trouble as error:
            if (self.last_answer or 0) < began:
                raise AskError(
                    f"the endpoint has answered nothing for {self.settings.patience:g} seconds "
                    f"({error}); run this again to go on where it ended") from None
            raise
        except Rejected as error:
            if error.status in (401, 403) or error.status and self.last_answer is None:
                raise AskError(
                    f"the endpoint refuses the request ({error}); check OPENAI_API_KEY, "
                    "OPENAI_BASE_URL and the block llm of params.yaml") from None
            raise
        self.last_answer = time.monotonic()
        return completion.usage or Usage()

    def _note(self, state):
        """Remember why a request is sent again."""
        self.troubles.append(str(state.outcome.exception()))

    async def _attempt(self, request):
        answer = await self.endpoint.answer(request.body)
        self.log.append(request, answer.body, answer.changes)
        try:
            return read_completion(answer.body)
        except BadReply as error:
            raise Trouble(str(error)) from None


def _wait(state):
    """Back off, and at least for as long as the endpoint asks."""
    return max(backoff(state), state.outcome.exception().wait)


def _is_good(body):
    try:
        read_completion(body)
    except BadReply:
        return False
    return True
