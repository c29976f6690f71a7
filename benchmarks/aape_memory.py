"""How much memory a training step of AAPE takes at ImageNet's size, and how long.

    python benchmarks/aape_memory.py

One run, 256 images, 1,000 classes with 50 reference prompts each, features of size 512, as
ViT-B/16 has. Each row is a process of its own, whose peak it is; the first one makes no step. On
2 cores the class MLP's step took 5.2 s and 1.23 GB, of which 0.72 GB without a step.
"""

import resource
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from promptstudy.clip.text_features import DescriptionFeatures
from promptstudy.methods.aape import Classifier
from promptstudy.params.methods.aape import AAPEVariant
from promptstudy.training import Batch

IMAGES, CLASSES, PROMPTS, DIM = 256, 1000, 50, 512


def features(*shape):
    return F.normalize(torch.randn(*shape, DIM), dim=-1)


def step(projection):
    """Return the seconds of one forward and backward pass, the optimiser's momentum included."""
    prompts = DescriptionFeatures(features(CLASSES, PROMPTS),
                                  torch.full((CLASSES, PROMPTS), 1 / PROMPTS))
    method = Classifier(features(CLASSES), AAPEVariant(projection=projection), 100.0, [1], prompts)
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3, momentum=0.9)
    batch = Batch(None, features(1, IMAGES), torch.randint(CLASSES, (1, IMAGES)))
    start = time.perf_counter()
    method.loss(batch).sum().backward()
    optimizer.step()
    return time.perf_counter() - start


def main():
    if len(sys.argv) > 1:
        seconds = 0.0 if sys.argv[1] == "no step" else step(sys.argv[1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux counts kilobytes
        print(f"    {sys.argv[1]:14} {peak:5.2f} GB {seconds:6.1f} s", flush=True)
        return
    for projection in ("no step", "language", "blind", "class"):
        subprocess.run([sys.executable, __file__, projection], check=True)


if __name__ == "__main__":
    main()
