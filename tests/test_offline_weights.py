"""Weights without a network: what is said, and that a file, a cache and a mirror give the same."""

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import open_clip
import pytest
from safetensors.torch import save_file
from test_backbone import CONFIG

from promptstudy.clip.backbone import load_backbone
from promptstudy.errors import BackboneError

REPOSITORY, COMMIT = "someone/small", "c" * 40

# open_clip knows `small` with the tag `tag`, in a repository of the Hugging Face hub.
LOAD = f"""
import sys
from open_clip import factory, pretrained
factory._MODEL_CONFIGS["small"] = {CONFIG!r}
pretrained._PRETRAINED["small"] = {{"tag": {{"hf_hub": "{REPOSITORY}/"}}}}
from promptstudy.clip.backbone import load_backbone
from promptstudy.errors import UserError
try:
    backbone = load_backbone("small", sys.argv[1])
    print(backbone.image_fingerprint, backbone.text_fingerprint)
except UserError as error:
    sys.exit(f"error: {{error}}")
"""


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The file of random weights of `small`."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", CONFIG)
    path = tmp_path / "weights.safetensors"
    save_file(open_clip.create_model("small").state_dict(), path)
    return path


def load(pretrained, cache, **environment):
    """Load `small` in a process of its own, as the hub's settings are read at its start."""
    return subprocess.run([sys.executable, "-c", LOAD, str(pretrained)], text=True,
                          capture_output=True,
                          env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0",
                               "HF_HUB_DISABLE_XET": "1", **environment})


def fingerprints(run):
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.split()


@contextlib.contextmanager
def mirror(content):
    """Serve a file as the hub does; yield the mirror's address and the list of what is asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            known = self.path == f"/{REPOSITORY}/resolve/main/open_clip_model.safetensors"
            self.send_response(200 if known else 404)
            for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)),
                                "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}.items():
                self.send_header(name, value)
            self.end_headers()
            return known

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_mirror_a_copied_cache_and_a_file_give_the_same_weights(weights, tmp_path):
    own = load_backbone("small", str(weights))
    expected = [own.image_fingerprint, own.text_fingerprint]
    with mirror(weights.read_bytes()) as (address, asked):
        assert fingerprints(load("tag", tmp_path / "first", HF_ENDPOINT=address)) == expected
    assert asked
    folder = "models--someone--small"
    (tmp_path / "first" / folder).rename(tmp_path / folder)  # "another machine"
    copied = load("tag", tmp_path, HF_HUB_OFFLINE="1")
    assert fingerprints(copied) == expected


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"},
                                         {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_network_one_line_says_what_to_put_where(tmp_path, environment):
    run = load("tag", tmp_path / "cache", **environment)
    assert run.returncode == 1
    message = run.stderr.strip().splitlines()[-1]
    assert message == (
        "error: the weights 'tag' of 'small' are not on this machine and cannot be downloaded; "
        "fetch open_clip_model.safetensors of the Hugging Face repository someone/small on "
        f"another machine and copy its cache folder models--someone--small to {tmp_path}/cache, "
        "or give the file's path as backbone.pretrained; HF_ENDPOINT names a mirror")
    assert "Traceback" not in run.stderr


def test_weights_of_a_plain_address_have_a_place_too(monkeypatch, tmp_path):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", CONFIG)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small",
                        {"tag": {"url": "http://127.0.0.1:9/small.pt"}})
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BackboneError, match="put the file http://127.0.0.1:9/small.pt into "
                                            "~/.cache/clip, or give its path"):
        load_backbone("small", "tag")
