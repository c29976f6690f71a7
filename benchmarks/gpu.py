"""What a GPU makes of the real training and extraction, in under ten minutes.

    python benchmarks/gpu.py [--params FILE] [--classes 37 100 1000] [--steps 20]

Every method of the suite (by default the paper's) trains with its own main variant and batches, on
random features of ImageNet's first classes and around the suite's backbone with random weights:
time does not depend on either. Tables, a line as soon as it is measured:

    steps      seconds per training step of three runs, by method and number of classes
    ways       the same of CoOp: fp32, TF32, bfloat16, fifteen runs at once, torch.compile, and
               torch.compile with CUDA graphs; with two classes it is what a step takes at least
    equality   how far what a method learns in two steps is from what it learns on the CPU, as a
               share of its largest number
    images     extraction per second: benchmarks/extraction.py, on a GPU alone

It runs on the GPU if there is one. It has not met one yet, so `promptstudy.machine` still assumes
what a GPU does.
"""

import argparse
import contextlib
import functools
import time
from pathlib import Path

import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch.nn import functional as F
from validation import told

from promptstudy.clip.backbone import best_device, load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack, compact
from promptstudy.datasets.splits import SPLITS
from promptstudy.methods import registry
from promptstudy.params import DatasetParams, Setting, load_params
from promptstudy.task import Task
from promptstudy.training import train

PAPER = Path(__file__).parents[1] / "params-paper.yaml"
NAME, SHOTS, LOCAL, SENTENCES = "random", 16, 9, 4
RUNS, MANY = 3, 15
WAYS = ("fp32", "TF32", "bfloat16", f"{MANY} runs", "torch.compile", "CUDA graphs")


@functools.cache
def random_backbone(name, root, device):
    """Return the backbone with random weights, the same on every device."""
    torch.manual_seed(0)
    return load_backbone(name, root=root, device=device)


def random_task(params, n_classes, device, runs=RUNS):
    """Return a Task of so many classes with `SHOTS` random training images each."""
    names = IMAGENET_CLASSNAMES[:n_classes]
    params = params.model_copy(update={"seeds": list(range(1, runs + 1)), "datasets": {
        NAME: DatasetParams(images="nowhere", template="a photo of a {}.")}})
    backbone = random_backbone(params.backbone.name, params.root, device)
    torch.manual_seed(0)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    tensors = {}
    for split in SPLITS:
        count = n_classes * SHOTS if split == "train" else n_classes
        generator = torch.Generator().manual_seed(0)
        tensors |= {f"{split}.labels": torch.arange(count) % n_classes,
                    f"{split}.features": torch.randn(count, encoder.dim, generator=generator)}
        for kind, each in (("local", LOCAL), ("views", 0)):
            vectors = torch.randn(count, each, encoder.dim, generator=generator)
            tensors[f"{split}.{kind}"], tensors[f"{split}.{kind}_scale"] = compact(vectors)
    pack = FeaturePack(tensors, {"dataset": NAME, "class_names": names})
    task = Task(params, pack, backbone, encoder)
    return told(task, {name: [f"A photo of a {name}, seen from side {number}."
                              for number in range(SENTENCES)] for name in names})


def trained(task, method, steps):
    """Train a method for so many steps; return seconds per step and what it learned."""
    block = task.params.methods[method]
    setting = Setting("few_shot", block.few_shot or block.base_to_new, SHOTS)
    schedule = block.schedule.model_copy(update={
        "epochs": {SHOTS: steps}, "max_steps": None, "warmup_epochs": 0})
    batch = min(schedule.batch_size, len(task.pack.train.labels))
    draws = torch.arange(batch).expand(len(task.params.seeds), -1)  # one batch is an epoch
    model = registry.load(method).build(task, setting, task.class_names, draws)
    start = time.perf_counter()
    train(model, task.pack.train, draws, schedule, SHOTS, task.params.seeds)  # waits for the GPU
    seconds = (time.perf_counter() - start) / steps
    return seconds, {name: p.detach().cpu() for name, p in model.named_parameters()
                     if p.requires_grad}


@contextlib.contextmanager
def way_of(task, way):
    """Compute in one of `WAYS` while the context lasts."""
    device, precision = task.encoder.device.type, torch.get_float32_matmul_precision()
    try:
        if way == "TF32":
            torch.set_float32_matmul_precision("high")
        if way in ("torch.compile", "CUDA graphs"):
            task.encoder.compile(mode="reduce-overhead" if way == "CUDA graphs" else "default")
        with torch.autocast(device, torch.bfloat16, enabled=way == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def table_of_steps(params, classes, steps, device):
    """Print seconds per step, by method and number of classes."""
    print("\nsteps: seconds per step, three runs")
    for method in params.methods:
        row = []
        for n_classes in classes:
            task = random_task(params, n_classes, device)
            trained(task, method, 1)  # warms up
            row.append(f"{n_classes} classes {trained(task, method, steps)[0]:.4f}")
        print(f"{method:10} " + "  ".join(row), flush=True)


def table_of_ways(params, classes, steps, device):
    """Print seconds per step of CoOp in each of `WAYS`; a way that fails says why."""
    print("\nways: seconds per step of CoOp")
    for way in WAYS:
        if way == "CUDA graphs" and device.type != "cuda":
            continue
        row = []
        for n_classes in (2, *classes):
            task = random_task(params, n_classes, device, MANY if way.endswith("runs") else RUNS)
            try:
                with way_of(task, way):
                    trained(task, "coop", 2)
                    row.append(f"{n_classes} classes {trained(task, 'coop', steps)[0]:.4f}")
            except RuntimeError as error:
                row.append(f"{n_classes} classes failed ({str(error).splitlines()[0][:60]})")
        print(f"{way:14} " + "  ".join(row), flush=True)


def table_of_equality(params, n_classes, device):
    """Print how far what is learned is from what the CPU learns; return the largest of it."""
    print("\nequality: largest difference from the CPU, as a share of the largest number")
    worst = 0.0
    for method in params.methods:
        here, there = (trained(random_task(params, n_classes, where), method, 2)[1]
                       for where in (torch.device("cpu"), device))
        apart = max((F.l1_loss(there[name], here[name], reduction="none").max()
                     / here[name].abs().max().clamp(min=1e-12)).item() for name in here)
        worst = max(worst, apart)
        print(f"{method:10} {apart:.1e}", flush=True)
    return worst


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=Path, default=PAPER)
    parser.add_argument("--classes", type=int, nargs="+", default=[37, 100, 1000])
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args(arguments)
    params, device = load_params(args.params), best_device()
    print(f"{params.backbone.name} with random weights on "
          + (torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"))
    table_of_steps(params, args.classes, args.steps, device)
    table_of_ways(params, args.classes, args.steps, device)
    table_of_equality(params, args.classes[0], device)
    if device.type == "cuda":
        import extraction
        print("\nimages per second")
        extraction.main()


if __name__ == "__main__":
    main()
