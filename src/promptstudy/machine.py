"""How fast this machine is, measured in a few seconds with a model of the suite's shape.

How fast a GPU is that is not at hand is assumed.
"""

import os
import time
from typing import cast

import torch
from torch import Tensor

from .batches import on_gpu
from .clip.image_features import encode_images
from .clip.openclip import open_clip
from .clip.text import TextEncoder
from .cost import Size, Speed, Tower, image_gflop, image_shape, text_gflop, untrained
from .methods.coop import CoOp
from .params import Params
from .params.method import ContextParams
from .training import AT_ONCE, Batch

CLASSES, CTX = (2, 50), 16  # the small step shows what a step takes at least
PATIENCE = 2.0  # seconds for each of the three measurements
DECODE_SECONDS = 0.0033  # of one core for a crop of 500 x 375 pixels: benchmarks/extraction.csv
# ASSUMED of one A100: what it sustains in single precision (half its peak), which training computes
# in, and in bfloat16 (a third of its peak), which features are extracted in; what a step takes at
# least, 3,000 operations being started; and 16 cores that decode.
TFLOPS_FP32, TFLOPS_BF16, STEP_SECONDS, CORES = 10, 100, 0.015, 16


def assumed_gpu(params: Params) -> Speed:
    """Return the `Speed` of a GPU with 16 CPU cores as it is assumed, with the suite's backbone."""
    gflop = image_gflop(params.backbone.name, params.root)
    images = min(1000 * TFLOPS_BF16 / gflop, CORES / DECODE_SECONDS)
    return Speed(1000 * TFLOPS_FP32, images, STEP_SECONDS)


def measure(params: Params) -> Speed:
    """Return the `Speed` of this machine with the suite's backbone, which has random weights here.

    Settings train side by side, each on its share of the cores; that share is measured. On a CPU
    the time counts that this process has it, so that the measurement can share the machine.
    """
    cores = torch.get_num_threads()
    model, source = untrained(params.backbone.name, params.root)
    model.eval().requires_grad_(False)
    encoder = TextEncoder(model, open_clip.get_tokenizer(source))
    side_by_side = min(AT_ONCE, cores)
    torch.set_num_threads(max(1, cores // side_by_side))
    try:
        (least, _), (seconds, gflop) = (_step(params, encoder, count) for count in CLASSES)
    finally:
        torch.set_num_threads(cores)
    return Speed(gflop / seconds, _images(params, model), least, side_by_side)


def _step(params, encoder, n_classes):
    """Return seconds and GFLOP of a training step of CoOp with so many classes."""
    seeds, size = params.seeds, params.coop.schedule.batch_size
    method = CoOp(encoder, [f"class {number}" for number in range(n_classes)],
                  ContextParams(n_ctx=CTX), 30.0, seeds=seeds)
    images = torch.nn.functional.normalize(torch.randn(len(seeds), size, encoder.dim), dim=-1)
    batch = Batch(cast(Tensor, None), images,  # which images they are is not looked at
                  torch.randint(n_classes, (len(seeds), size)))
    tokens = (method.layout.end + 1).sum().item()

    def step():
        method.zero_grad()
        method.loss(batch).sum().backward()

    size = Size(n_classes, 0, 0, tokens)
    return _fastest(step, _cpu_seconds), text_gflop(size, len(seeds), Tower.of(params))


@torch.no_grad()
def _images(params, model):
    """Return images per second through the image tower, on a GPU if there is one.

    Decoding is not counted.
    """
    with on_gpu(model) as device:
        gpu = device.type == "cuda"
        count = params.features.batch_size if gpu else 4
        images = torch.randn(*image_shape(model, count), device=device)

        def encode():
            with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
                encode_images(model, images)[0].sum().item()

        seconds = _fastest(encode, time.perf_counter if gpu else _cpu_seconds)
    return min(count / seconds, (os.cpu_count() or 1) / DECODE_SECONDS)


def _fastest(function, clock):
    """Return the seconds of the fastest call, of as many as `PATIENCE` allows, at least two."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - started < PATIENCE:
        before = clock()
        function()
        times.append(clock() - before)
    return min(times)


def _cpu_seconds():
    """Seconds that this process has had its threads' cores: other processes do not count."""
    return time.process_time() / torch.get_num_threads()
