"""How long one training step takes at ImageNet's 1,000 classes, and how much memory beyond weights.

    python benchmarks/imagenet_step.py

CLIP ViT-B/16's text tower with random weights (time and memory do not depend on them), batches of
32, on the GPU if there is one. Every case runs in a process of its own; a step is timed (on a CPU
as the time of one core, which does not depend on what else the machine does), and the operations of
another are counted, because the counter holds on to tensors. "one piece" pads all classes to the
longest and holds their activations until the backward pass. Takes about seven minutes on a CPU,
needs 9 GB of memory and writes benchmarks/imagenet_step.csv.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import open_clip
import pandas as pd
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from promptstudy.clip import text
from promptstudy.clip.text_features import DescriptionFeatures
from promptstudy.methods.augmentation import Support
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualpt import DuAlPT
from promptstudy.methods.dualview import DualView
from promptstudy.params import ContextParams
from promptstudy.params.methods.dualpt import DuAlPTVariant
from promptstudy.params.methods.dualview import DualViewVariant
from promptstudy.training import Batch

MODEL, BATCH, SHOTS, LOCAL, SCALE = "ViT-B-16-quickgelu", 32, 16, 9, 100.0
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CLOCK = time.perf_counter if DEVICE.type == "cuda" else time.process_time
CASES = [("CoOp", 1, "one piece"), ("CoOp", 1, "chunks"), ("CoOp", 3, "chunks"),
         ("CoOp class-specific", 1, "chunks"), ("dual-view", 1, "chunks"),
         ("DuAl-PT", 1, "chunks")]


def directions(*shape):
    """Return random normalised vectors [..., d] on the device."""
    return F.normalize(torch.randn(*shape), dim=-1).to(DEVICE)


def build(name, encoder, runs):
    """Return the untrained method called `name` in a case; its images are random."""
    names, seeds = IMAGENET_CLASSNAMES, list(range(runs))
    common = (encoder, names)
    texts = DescriptionFeatures(directions(len(names), 10, encoder.dim),
                                torch.full((len(names), 10), 0.1, device=DEVICE))
    match name:
        case "CoOp":
            return CoOp(*common, ContextParams(), SCALE, seeds=seeds)
        case "CoOp class-specific":
            return CoOp(*common, ContextParams(class_specific=True), SCALE, seeds=seeds)
        case "DuAl-PT":
            local = torch.randn(BATCH, LOCAL, encoder.dim)
            return DuAlPT(*common, DuAlPTVariant(), SCALE, seeds=seeds, train_local=local,
                          descriptions=texts)
        case "dual-view":
            labels = torch.arange(SHOTS * len(names)) % len(names)
            support = Support(directions(runs, len(labels), 1, encoder.dim),
                              labels.expand(runs, -1))
            return DualView(*common, DualViewVariant(hard_view="ensemble"), SCALE, seeds=seeds,
                            hard=texts, support=support)


def step(method, optimizer, batch):
    """Train one step and return its seconds."""
    start = CLOCK()
    optimizer.zero_grad()
    method.loss(batch).sum().backward()
    optimizer.step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return CLOCK() - start


def memory(kind):
    """Return MB in use now (`kind` "VmRSS") or at most since it was last called ("VmHWM")."""
    if DEVICE.type == "cuda":
        used = {"VmRSS": torch.cuda.memory_allocated, "VmHWM": torch.cuda.max_memory_allocated}
        return used[kind]() / 1e6
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak, that of loading the model
    return int(re.search(rf"{kind}:\s+(\d+) kB", status).group(1)) * 1024 / 1e6


def measure(name, runs, form):
    """Print GFLOP, peak MB beyond the weights and what was built, and seconds of one step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL, pretrained=None).eval().requires_grad_(False)
    del model.visual
    encoder = text.TextEncoder(model.to(DEVICE), open_clip.get_tokenizer(MODEL))
    if form == "one piece":
        text.HELD = text.PADDING = float("inf")
    method = build(name, encoder, runs)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.002, momentum=0.9)
    labels = torch.randint(len(IMAGENET_CLASSNAMES), (runs, BATCH), device=DEVICE)
    batch = Batch(torch.arange(BATCH).expand(runs, -1), directions(runs, BATCH, encoder.dim),
                  labels)
    before = memory("VmRSS")
    for _ in range(2 if DEVICE.type == "cuda" else 1):  # a GPU's first step prepares the others
        seconds = step(method, optimizer, batch)
    peak = memory("VmHWM") - before
    with FlopCounterMode(display=False) as counter:
        step(method, optimizer, batch)
    print(counter.get_total_flops() / 1e9, peak, seconds)


def main():
    rows = []
    for case in CASES:
        output = subprocess.run([sys.executable, __file__, *map(str, case)], check=True,
                                capture_output=True, text=True).stdout
        gflop, peak, seconds = map(float, output.split())
        device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "1 CPU core"
        rows.append({**dict(zip(("method", "runs", "form"), case, strict=True)), "device": device,
                     "gflop": round(gflop), "seconds": round(seconds, 3),
                     "peak_mb": round(peak)})
        print(*rows[-1].values(), sep="\t", flush=True)
    pd.DataFrame(rows).to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    else:
        main()
