"""A file server on the loopback address that misbehaves as it is told to."""

import re
import time

from local_server import LocalServer, QuietHandler


class FileServer(LocalServer):
    """Serves `files`, {path: bytes}, with ranges; a context manager.

    `script(number of the request, path)` returns what goes wrong: None for nothing, or a dict of
    `status`, `body` (bytes instead of the file's), `cut` (how many bytes are sent of those
    announced), `ranges` (False: ignored; "wrong": another range than asked), `length` (False: not
    announced) and `delay`. `requests` collects (path, Range header or None).
    """

    def __init__(self, files, script=lambda number, path: None):
        self.files, self.script, self.requests = files, script, []

    def handler(self):
        server = self

        class Handler(QuietHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                server.requests.append((self.path, wanted))
                do = server.script(len(server.requests), self.path) or {}
                time.sleep(do.get("delay", 0))
                whole = do.get("body", server.files.get(self.path))
                if whole is None or "status" in do:
                    self.send_error(do.get("status", 404))
                    return
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1)) if wanted else 0
                start = 0 if do.get("ranges") is False else start
                if start and start >= len(whole):
                    self.send_error(416)
                    return
                content = whole[start:]
                self.send_response(206 if start else 200)
                if start:
                    first = start + (do.get("ranges") == "wrong")
                    self.send_header("Content-Range",
                                     f"bytes {first}-{len(whole) - 1}/{len(whole)}")
                if do.get("length", True):
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:do.get("cut", len(content))])

        return Handler
