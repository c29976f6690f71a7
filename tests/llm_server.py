"""An OpenAI-compatible server on the loopback address that misbehaves as it is told to."""

import json
import threading
import time

from local_server import LocalServer, QuietHandler


def completion(text, finish_reason="stop", **message):
    """Return the body of a chat completion."""
    return json.dumps({
        "id": "1", "object": "chat.completion", "created": 1, "model": "nobody",
        "choices": [{"index": 0, "finish_reason": finish_reason,
                     "message": {"role": "assistant", "content": text, **message}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}})


def describes(question):
    """The reply of a server in good health: it says what it was asked about."""
    return completion(f"It looks like the answer to {question.removesuffix('?').lower()}.")


class Server(LocalServer):
    """Answers `POST /v1/chat/completions`; a context manager.

    `script` is called with `(number of the request, question)` and returns what to do: None for a
    good reply, or a dict of `status`, `headers`, `body` (str, or bytes), `times` (that it is sent
    over and over), `cut` (bytes of the body that are sent of those announced), `delay` (before
    anything is sent), `pause` (between two bytes of the body) and `greeting` (str, sent in front of
    the response, with the same pauses). `requests` collects the bodies received.
    """

    def __init__(self, script=lambda number, question: None):
        self.script, self.requests, self.lock = script, [], threading.Lock()
        self.under_way = self.most_under_way = 0

    def handler(self):
        server = self

        class Handler(QuietHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append(body)
                    number = len(server.requests)
                    server.under_way += 1
                    server.most_under_way = max(server.most_under_way, server.under_way)
                try:
                    self.answer(body["messages"][-1]["content"], number)
                finally:
                    with server.lock:
                        server.under_way -= 1

            def answer(self, question, number):
                do = server.script(number, question) or {"body": describes(question)}
                time.sleep(do.get("delay", 0))
                content = do.get("body", "")
                if isinstance(content, str):
                    content = content.replace("KEY", self.headers["Authorization"]).encode()
                self.send(do.get("greeting", "").encode(), do)
                self.send_response(do.get("status", 200))
                for name, value in do.get("headers", {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content) * do.get("times", 1)))
                self.end_headers()
                for _ in range(do.get("times", 1)):
                    self.send(content[:do.get("cut", len(content))], do)

            def send(self, content, do):
                if "pause" not in do:
                    self.wfile.write(content)
                    return
                for number in range(len(content)):
                    self.wfile.write(content[number:number + 1])
                    time.sleep(do["pause"])

        return Handler
