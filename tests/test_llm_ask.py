"""Asking: whatever the endpoint does, replies are kept, retried or listed; none is paid twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import changed
from llm_server import Server, completion, describes

from promptstudy.errors import AskError
from promptstudy.llm import ask as asking
from promptstudy.llm.ask import ask, plan
from promptstudy.llm.log import log_path, read_log
from promptstudy.llm.parse import parse
from promptstudy.llm.queries import requests
from promptstudy.params import PriceParams, load_params

KEY = "sk-do-not-tell-anyone-0123456789"
NAMES = ["red disc", "emu"]


@pytest.fixture
def suite(own_suite, monkeypatch):
    """A function that returns the tiny suite's params, asking a server with other settings."""
    monkeypatch.setattr(asking, "backoff", lambda state: 0.02)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def params(server, **settings):
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        loaded = load_params(own_suite / "params.yaml")
        return changed(loaded, llm=loaded.llm.model_copy(update=settings))

    return params


def sentences(params, names=NAMES):
    return parse(requests(params, "shapes", names), read_log(log_path(params, "shapes")))


def test_every_request_is_sent_once_and_ends_in_the_log(suite):
    with Server() as server:
        params = suite(server, n_replies=2, price=PriceParams(prompt=100, reply=1000))
        assert len(plan(params, "shapes", NAMES).todo) == 8
        outcome = ask(params, "shapes", NAMES)
        assert (outcome.n_answered, outcome.failed, dict(outcome.retried)) == (8, [], {})
        assert outcome.usd == pytest.approx(8 * (10 * 100 + 5 * 1000) / 1e6)
        sent = server.requests
        assert len(sent) == len({json.dumps(body) for body in sent}) == 8
        assert sent[0].keys() == {"model", "messages", "temperature", "max_tokens", "seed"}
        assert {body["seed"] for body in sent} == {0, 1}
        assert {body["messages"][-1]["content"] for body in sent} == {
            "What does a red disc drawing look like?", "Where is a red disc drawing seen?",
            "What does an emu drawing look like?", "Where is an emu drawing seen?"}
        ask(params, "shapes", NAMES)
        assert len(server.requests) == 8
    parsed = sentences(params)
    assert parsed.sentences["emu"] == ["It looks like the answer to what does an emu drawing "
                                       "look like.", "It looks like the answer to where is an emu "
                                       "drawing seen."]
    assert {problem.reason for problem in parsed.problems} == {"duplicate"}


def test_settings_that_are_null_are_not_sent_and_extra_ones_are(suite):
    with Server() as server:
        ask(suite(server, max_tokens=None, seed=None, temperature=None,
                  extra={"max_completion_tokens": 50}), "shapes", NAMES[:1])
        assert server.requests[0].keys() == {"model", "messages", "max_completion_tokens"}


def test_a_changed_setting_or_query_is_another_request(suite):
    with Server() as server:
        ask(suite(server), "shapes", NAMES)
        for changes, n_todo in (({}, 0), ({"n_replies": 3}, 8), ({"temperature": 0.5}, 4),
                                ({"seed": 1}, 4), ({"model": "other"}, 4)):
            assert len(plan(suite(server, **changes), "shapes", NAMES).todo) == n_todo
        assert len(plan(suite(server), "figures", NAMES).todo) == 4


def test_concurrency_is_bounded(suite):
    with Server(lambda number, question: {"delay": 0.05, "body": describes(question)}) as server:
        ask(suite(server, concurrency=3, n_replies=5), "shapes", NAMES)
        assert server.most_under_way == 3


@pytest.mark.parametrize("trouble, reason", [
    ({"status": 429}, "HTTP 429"),
    ({"status": 429, "headers": {"Retry-After": "0.1"}}, "HTTP 429"),
    ({"status": 503, "body": "<html>"}, "HTTP 503"),
    ({"status": 408}, "HTTP 408"),
    ({"body": completion("An emu."), "cut": 40}, "no connection, or it was cut"),
    ({"delay": 2.5, "body": completion("Too late.")}, "no whole reply within 2 seconds"),
    ({"body": "<html><body>Sign in</body></html>"}, "HTML instead of JSON"),
    ({"body": completion("An emu.")[:50]}, "cut or malformed JSON"),
    ({"body": ""}, "cut or malformed JSON"),
    ({"body": '{"error": {"message": "overloaded"}}'}, "wrong schema: choices: field required"),
    ({"body": '{"choices": "oops"}'}, "wrong schema: choices: input should be a valid array"),
    ({"body": '{"choices": []}'}, "wrong schema: choices: list should have at least 1 item"),
    ({"body": '{"choices": [{"message": {"content": 5}}]}'}, "wrong schema: choices.0.message"),
    ({"body": "null"}, "wrong schema: the whole"),
])
def test_passing_trouble_is_retried(suite, trouble, reason):
    with Server(lambda number, question: trouble if number <= 2 else None) as server:
        params = suite(server, concurrency=1, patience=20)
        outcome = ask(params, "shapes", NAMES)
        assert outcome.n_answered == 4 and not outcome.failed
        assert len(server.requests) == 4 + 2
    (seen, count), = outcome.retried.items()
    assert seen.startswith(reason) and count == 2
    assert all(len(texts) == 2 for texts in sentences(params).sentences.values())
    assert sentences(params).problems == []


def test_a_long_retry_after_does_not_block_beyond_the_patience(suite):
    def script(number, question):
        return {"status": 429, "headers": {"Retry-After": "90"}} if "emu" in question else None

    with Server(script) as server:
        params, started = suite(server, concurrency=1), time.monotonic()
        with pytest.raises(AskError, match=r"nothing for 2 seconds \(HTTP 429\)"):
            ask(params, "shapes", NAMES)
        assert time.monotonic() - started < 2
        assert len(server.requests) == 3
    assert [problem.reason for problem in sentences(params).problems] == ["no reply yet"] * 2


def test_a_retry_after_may_be_a_date(suite):
    date = {"Retry-After": "Wed, 21 Oct 2037 07:28:00 GMT"}
    with Server(lambda number, question: {"status": 503, "headers": date}) as server:
        with pytest.raises(AskError, match="HTTP 503"):
            ask(suite(server), "shapes", NAMES)
        assert len(server.requests) <= 4


def test_a_storm_ends_within_the_patience_and_is_gone_through_later(suite):
    with Server(lambda number, question: {"status": 429}) as server:
        params, started = suite(server, patience=0.5), time.monotonic()
        with pytest.raises(AskError, match="run this again to go on where it ended"):
            ask(params, "shapes", NAMES)
        assert time.monotonic() - started < 2
        assert len(server.requests) <= 4 * (0.5 / 0.02 + 2)
        server.script = lambda number, question: None
        assert ask(params, "shapes", NAMES).n_answered == 4


def test_one_request_that_always_fails_is_listed_and_stops_no_other(suite):
    def script(number, question):
        bad = "Where" in question and "emu" in question
        return {"status": 500} if bad else {"delay": 0.1, "body": describes(question)}

    with Server(script) as server:
        params = suite(server, concurrency=2, patience=0.5)
        outcome = ask(params, "shapes", ["emu", *(f"class {n}" for n in range(9))])
    assert outcome.n_answered == 20 - 1
    assert {(request.class_name, reason) for request, reason in outcome.failed} == {
        ("emu", "HTTP 500")}


def test_a_refused_key_ends_the_run_at_once_and_is_told_to_nobody(suite, capfd):
    refusal = {"status": 401, "body": "bad key KEY"}
    with Server(lambda number, question: refusal if number > 2 else None) as server:
        params = suite(server, concurrency=1)
        with pytest.raises(AskError, match="HTTP 401: bad key Bearer .key.*check OPENAI_API_KEY"):
            ask(params, "shapes", NAMES)
        assert len(server.requests) == 3
    assert KEY not in str(capfd.readouterr())


def test_an_echoed_key_does_not_get_into_the_log(suite):
    with Server(lambda number, question: {"body": completion("Your key KEY is nice.")}) as server:
        params = suite(server)
        ask(params, "shapes", NAMES)
    assert KEY.encode() not in log_path(params, "shapes").read_bytes()
    assert sentences(params).sentences["emu"] == ["Your key Bearer [key] is nice."]


def test_a_request_refused_by_the_endpoint_is_listed(suite):
    def script(number, question):
        return {"status": 400, "body": "content policy"} if number == 3 else None

    with Server(script) as server:
        outcome = ask(suite(server, concurrency=1), "shapes", NAMES)
    assert outcome.n_answered == 3
    assert [reason for _, reason in outcome.failed] == ["HTTP 400: content policy"]


def test_wrong_settings_end_the_run_at_once(suite):
    with Server(lambda number, question: {"status": 400, "body": "unknown model"}) as server:
        with pytest.raises(AskError, match="HTTP 400: unknown model.*the block llm of params"):
            ask(suite(server, concurrency=1), "shapes", NAMES)
        assert len(server.requests) == 1


def test_no_key_and_no_endpoint(suite, monkeypatch):
    with Server() as server:
        params = suite(server, patience=0.2)
    with pytest.raises(AskError, match="no connection"):
        ask(params, "shapes", NAMES)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AskError, match="OPENAI_API_KEY is not set"):
        ask(params, "shapes", NAMES)


def test_two_runs_at_once_are_refused(suite):
    with Server() as server:
        params = suite(server)
        with asking.FileLock(params.root / ".work" / "ask-shapes.lock"):
            with pytest.raises(AskError, match="another process is asking about shapes"):
                ask(params, "shapes", NAMES)
        assert not server.requests


def test_the_command_and_its_dry_run(own_suite):
    with Server() as server:
        run = command(own_suite, server, "ask", "shapes", "--dry-run")
        assert "shapes: 14 of 14 requests to send, about $0.00 at most" in run.communicate()[0]
        assert run.returncode == 0 and not server.requests
        output = command(own_suite, server, "ask").communicate()[0]
        assert "14 sentences for 7 classes; left out: nothing" in output
        assert "12 sentences for 6 classes" in output and len(server.requests) == 26
        assert KEY not in output


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_killed_run_loses_and_repeats_nothing(own_suite, after):
    slow = lambda number, question: {"delay": 0.05, "body": describes(question)}  # noqa: E731
    with Server(slow) as server:
        killed = command(own_suite, server, "ask", "shapes")
        path = own_suite / "data" / "descriptions" / "shapes.jsonl"
        while not path.is_file() or path.read_bytes().count(b"\n") < after:
            assert killed.poll() is None
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        kept = len(read_log(path))
        path.write_bytes(path.read_bytes() + b'{"time": "torn li')
        server.requests.clear()
        output = command(own_suite, server, "ask", "shapes").communicate()[0]
        assert kept >= after and len(server.requests) == 14 - kept
    assert "14 sentences for 7 classes; left out: nothing" in output
    assert len(read_log(path)) == 14


def command(suite, server, *arguments):
    """Start a command of the package on a suite."""
    return subprocess.Popen(
        [sys.executable, "-m", "promptstudy", "--params", suite / "params.yaml", *arguments],
        env={**os.environ, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
