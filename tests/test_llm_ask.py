"""Asking: whatever the endpoint does, replies are kept, retried or listed; none is paid twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib

import pytest
from conftest import changed
from llm_server import Server, completion, describes

from promptstudy.errors import AskError
from promptstudy.llm import ask as asking
from promptstudy.llm.ask import ask, estimate
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
        assert len(estimate(params, "shapes", NAMES).todo) == 8
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
            assert len(estimate(suite(server, **changes), "shapes", NAMES).todo) == n_todo
        assert len(estimate(suite(server), "figures", NAMES).todo) == 4


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


def complaint(message, param=None, code=None):
    """Return the body of an OpenAI-compatible error."""
    return json.dumps({"error": {"message": message, "type": "invalid_request_error",
                                 "param": param, "code": code}})


TEMPERATURE = complaint("Unsupported value: 'temperature' does not support 0.7 with this model. "
                        "Only the default (1) value is supported.", "temperature",
                        "unsupported_value")
MAX_TOKENS = complaint("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                       "'max_completion_tokens' instead.", "max_tokens", "unsupported_parameter")
DETAIL = json.dumps({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"],
                                 "msg": "Extra inputs are not permitted", "input": 0}]})


@pytest.mark.parametrize("refusals, n_refused, changes", [
    ({"temperature": TEMPERATURE}, 1, {"temperature": None}),
    ({"temperature": complaint("`temperature` is deprecated for this model")}, 1,
     {"temperature": None}),
    ({"max_tokens": MAX_TOKENS}, 1, {"max_tokens": "max_completion_tokens"}),
    ({"max_tokens": "max_tokens: unknown", "max_completion_tokens": "max_completion_tokens, too"},
     2, {"max_tokens": None}),
    ({"seed": DETAIL}, 1, {"seed": None}),
    ({"temperature": "neither temperature nor seed"}, 1, {"temperature": None, "seed": None}),
    ({"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS, "seed": DETAIL}, 3,
     {"temperature": None, "max_tokens": "max_completion_tokens", "seed": None}),
])
def test_a_refused_parameter_is_left_out_or_renamed(suite, capsys, refusals, n_refused, changes):
    def script(number, question):
        for name, body in refusals.items():
            if name in server.requests[number - 1]:
                return {"status": 422 if body == DETAIL else 400, "body": body}

    with Server(script) as server:
        params = suite(server, concurrency=1)
        outcome = ask(params, "shapes", NAMES)
        assert outcome.n_answered == 4 and not outcome.failed
        assert len(server.requests) == 4 + n_refused  # later ones are accepted at once
        sent = {changes.get(name, name) for name in ("temperature", "max_tokens", "seed")}
        assert server.requests[-1].keys() - {"model", "messages"} == sent - {None}
        if "max_completion_tokens" in sent:
            assert server.requests[-1]["max_completion_tokens"] == 80
    lines = log_path(params, "shapes").read_text().splitlines()
    assert [json.loads(line)["changes"] for line in lines] == [changes] * 4
    output = capsys.readouterr().out
    assert all(output.count(f"the endpoint refuses {name}: ") == 1 for name in changes)
    assert not estimate(params, "shapes", NAMES).todo  # they are the replies to what was asked


@pytest.mark.parametrize("body", [
    complaint("max_tokens is too large: 80. This model supports at most 40.", "max_tokens"),
    complaint("temperature must be less than 0.5", "temperature"),
    complaint("the model does not exist, whatever its temperature", "model")])
def test_a_refused_value_is_not_left_out(suite, body):
    with Server(lambda number, question: {"status": 400, "body": body}) as server:
        with pytest.raises(AskError, match="HTTP 400: .*the block llm of params"):
            ask(suite(server, concurrency=1), "shapes", NAMES)
        assert len(server.requests) == 1


def test_what_does_not_help_is_not_kept(suite):
    def script(number, question):
        bad = "emu" in question and "seen" in question
        return {"status": 400, "body": "no seed may be shown"} if bad else None

    with Server(script) as server:
        outcome = ask(suite(server, concurrency=1), "shapes", ["red disc", "emu", "yak"])
        assert [reason for _, reason in outcome.failed] == ["HTTP 400: no seed may be shown"]
        assert ["seed" in body for body in server.requests] == [True] * 4 + [False] + [True] * 2


def stream(*pieces, finish_reason="stop", end="data: [DONE]\n\n"):
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
              for piece in pieces]
    chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]},
               {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}]
    return ": hello\n\n" + "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks) + end


def test_a_streamed_reply_is_read(suite):
    body = stream("It is tall", " and", " brown. My key is ", KEY[:9], KEY[9:], ".")
    with Server(lambda number, question: {
            "body": body, "headers": {"Content-Type": "text/event-stream"}}) as server:
        params = suite(server)
        outcome = ask(params, "shapes", NAMES)
    assert outcome.n_answered == 4 and outcome.usage.completion_tokens == 20
    assert sentences(params).sentences["emu"] == ["It is tall and brown.", "My key is [key]."]


@pytest.mark.parametrize("body, reason", [
    (stream("It is tall.", finish_reason=None, end=""), "a stream that was cut"),
    ('data: {"error": {"message": "over\\u001b[2Jloaded KEY"}}\n\n',
     "an error in the stream: overloaded Bearer [key]"),
    ("data: {\n\n", "cut or malformed JSON")])
def test_a_stream_that_is_no_reply_is_asked_for_again(suite, body, reason):
    with Server(lambda number, question: {"body": body} if number == 1 else None) as server:
        outcome = ask(suite(server, concurrency=1), "shapes", NAMES)
    assert outcome.n_answered == 4 and dict(outcome.retried) == {reason: 1}


@pytest.mark.parametrize("do", [
    {"body": completion("Too slow."), "pause": 0.3},
    {"greeting": "HTTP/1.1 100 Continue\r\nX-Slow: and slower and slower and slower\r\n\r\n",
     "pause": 0.3}])
def test_a_reply_that_trickles_in_is_given_up(suite, do):
    with Server(lambda number, question: do) as server:
        started = time.monotonic()
        with pytest.raises(AskError, match=r"no whole reply within 1 seconds \(llm.timeout\)"):
            ask(suite(server, timeout=1, patience=1), "shapes", NAMES)
        assert time.monotonic() - started < 4


def test_ctrl_c_ends_asking_at_once_whatever_the_endpoint_does(own_suite):
    doing = [{"delay": 60}, {"body": completion("Too slow."), "pause": 0.5},
             {"status": 429, "headers": {"Retry-After": "1"}},
             {"greeting": "HTTP/1.1 100 Continue\r\n\r\n", "pause": 0.5}]
    params = own_suite / "params.yaml"
    params.write_text(params.read_text().replace("timeout: 2, patience: 2", "patience: 60"))
    with Server(lambda number, question: doing[number % 4]) as server:
        asking = command(own_suite, server, "ask", "shapes")
        while len(server.requests) < 4:
            assert asking.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        started = time.monotonic()
        asking.send_signal(signal.SIGINT)
        output = asking.communicate()[0]
        assert time.monotonic() - started < 2
    assert asking.returncode == 1 and "ask: interrupted after" in output
    assert "Traceback" not in output


def zeros(n_megabytes):
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(n_megabytes)) + packer.flush()


@pytest.mark.parametrize("do", [
    {"body": zeros(200), "headers": {"Content-Encoding": "gzip"}},
    {"body": b"junk" * 250_000, "times": 100}])
def test_a_reply_that_is_too_large_is_neither_kept_nor_unpacked(suite, do):
    with Server(lambda number, question: do if number == 2 else None) as server:
        params = suite(server, concurrency=1)
        tracemalloc.start()
        outcome = ask(params, "shapes", NAMES)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert [reason for _, reason in outcome.failed] == ["a reply of more than 1 MB"]
    assert outcome.n_answered == 3 and len(read_log(log_path(params, "shapes"))) == 3
    assert peak < 30e6


@pytest.mark.parametrize("coding, reason", [
    ("br", "a reply packed as 'br', which was not requested"),
    ("gzip", "a reply that is not gzip, though its header says so")])
def test_a_reply_that_cannot_be_unpacked_is_listed(suite, coding, reason):
    do = {"body": "what is this?", "headers": {"Content-Encoding": coding}}
    with Server(lambda number, question: do if number == 2 else None) as server:
        outcome = ask(suite(server, concurrency=1), "shapes", NAMES)
    assert [reason for _, reason in outcome.failed] == [reason]


def test_a_packed_reply_is_read(suite):
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    body = packer.compress(completion("It is tall and brown.").encode()) + packer.flush()
    with Server(lambda number, question: {
            "body": body, "headers": {"Content-Encoding": "gzip"}}) as server:
        params = suite(server)
        assert ask(params, "shapes", NAMES).n_answered == 4
    assert sentences(params).sentences["emu"] == ["It is tall and brown."]


def test_a_large_error_page_is_an_error_like_others(suite):
    page = {"status": 503, "body": b"junk" * 250_000, "times": 3}
    with Server(lambda number, question: page if number == 1 else None) as server:
        outcome = ask(suite(server, concurrency=1), "shapes", NAMES)
    assert outcome.n_answered == 4 and dict(outcome.retried) == {"HTTP 503": 1}


def test_redirects_are_followed_within_the_endpoint_alone(suite):
    with Server() as other, Server() as server:
        def script(number, question):
            return {"status": 307, "headers": {"Location": where}} if number == 1 else None
        server.script, where = script, "/v1/elsewhere/"
        assert ask(suite(server, concurrency=1), "shapes", NAMES).n_answered == 4
        server.requests.clear()
        where = f"{other.url}/v1/chat/completions"
        with pytest.raises(AskError, match=f"redirects to another host, {other.url}, which is"):
            ask(suite(server, concurrency=1, seed=5), "shapes", NAMES)
        assert not other.requests and len(server.requests) == 1


CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.parametrize("body", [
    completion("\x1b[31mIt is\x1b[0m tall\x00 \x9b2Jand\x07 \u202ebrown.\x1b]0;title\x07\ud800"),
    completion("It is tall and brown.").replace(" tall", " \x1b[1mtall\x1b[0m\x9b0m")])
def test_control_characters_of_a_reply_go_nowhere(suite, body):
    with Server(lambda number, question: {"body": body}) as server:
        params = suite(server)
        assert ask(params, "shapes", NAMES).n_answered == 4
    assert sentences(params).sentences["emu"] == ["It is tall and brown."]
    for line in log_path(params, "shapes").read_text().splitlines():
        logged = json.loads(line)["body"]
        assert not CONTROLS.search(line) and not CONTROLS.search(logged)
        assert not CONTROLS.search(json.loads(logged)["choices"][0]["message"]["content"])


def test_control_characters_of_an_error_go_nowhere(suite):
    body = 'no\x1b[2J\x00\r\n{"error": "\\u001b[31m"}\x9b'
    with Server(lambda number, question: {"status": 400, "body": body}) as server:
        with pytest.raises(AskError) as caught:
            ask(suite(server), "shapes", NAMES)
    assert "HTTP 400: no {" in str(caught.value) and not CONTROLS.search(str(caught.value))


def test_a_reply_that_is_not_utf8_is_asked_for_again_and_not_kept(suite):
    body = completion("It is tall and brown.").encode().replace(b"tall", b"t\xffll")
    with Server(lambda number, question: {"body": body} if number == 1 else None) as server:
        params = suite(server, concurrency=1)
        outcome = ask(params, "shapes", NAMES)
    assert dict(outcome.retried) == {"a reply that is not valid UTF-8": 1}
    assert len(read_log(log_path(params, "shapes"))) == 4


SPELLINGS = [KEY.replace("-", "\\u002d"), KEY.replace("-", "\\u002D"),
             "".join(f"\\u{ord(char):04x}" for char in KEY)]


@pytest.mark.parametrize("spelt", SPELLINGS)
def test_an_escaped_key_gets_neither_into_the_log_nor_into_a_message(suite, spelt):
    body = completion("Your key is HERE.").replace("HERE", spelt)
    with Server(lambda number, question: {"body": body}) as server:
        params = suite(server)
        ask(params, "shapes", NAMES)
        assert sentences(params).sentences["emu"] == ["Your key is [key]."]
        assert spelt not in log_path(params, "shapes").read_text().replace("\\\\", "\\")
        for error in (f'{{"error": "bad key {spelt}"}}', f'{{"error": "bad key {spelt}'):
            server.script = lambda number, question: {"status": 401, "body": error}  # noqa: B023
            with pytest.raises(AskError, match=r'HTTP 401: \{"error": "bad key \[key\]'):
                ask(suite(server, seed=5), "shapes", NAMES)


def test_a_key_that_is_no_secret_is_no_word_to_hide(suite, monkeypatch):
    with Server(lambda number, question: {"body": completion("None is nonetheless red.")
                                          }) as server:
        params = suite(server)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        ask(params, "shapes", NAMES)
    assert sentences(params).sentences["emu"] == ["None is nonetheless red."]


@pytest.mark.parametrize("name, value, message", [
    ("HTTPS_PROXY", "socks5://127.0.0.1:1080", "HTTPS_PROXY names a socks5 proxy; only http"),
    ("ALL_PROXY", "ftp://127.0.0.1:21", "ALL_PROXY names a ftp proxy; only http"),
    ("HTTP_PROXY", "http://proxy:oops", "a proxy of the environment .* is not an address"),
    ("OPENAI_BASE_URL", "localhost:8000/v1", "OPENAI_BASE_URL .* must begin with http"),
    ("OPENAI_API_KEY", "sk-\n123456", "OPENAI_API_KEY holds characters that no key has")])
def test_an_environment_that_cannot_be_used_is_one_message(suite, monkeypatch, name, value,
                                                           message):
    with Server() as server:
        params = suite(server)
        monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv(name, value)
        with pytest.raises(AskError, match=message):
            ask(params, "shapes", NAMES)
        assert not server.requests


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


def test_a_class_without_a_sentence_is_an_error_of_the_command(own_suite):
    def script(number, question):
        return {"body": completion("Red.")} if "disc" in question else None

    with Server(script) as server:
        asking = command(own_suite, server, "ask", "shapes")
        output = asking.communicate()[0]
    assert asking.returncode == 1 and "left out: 1 words: 4" in output
    assert "error: shapes: 2 of 7 classes have no sentence, 'red disc', 'green disc'; see above" \
        in output.replace("'green disc', 'red disc'", "'red disc', 'green disc'")


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
