"""What the full grid of the paper suite costs, on paper: stages, operations and hours on one GPU.

    python benchmarks/grid_cost.py

Every setting that `params-paper.yaml` trains, with its own epochs, on four backbones: 1 to 16 shots
of eleven datasets, base-to-new, what is trained on ImageNet to be tested elsewhere, the ablations.
Operations of a training step come from imagenet_step.csv, those of the image towers are counted
here; the rates of a GPU are ASSUMED, see below. Evaluation is left out.
"""

from pathlib import Path
from typing import NamedTuple

import open_clip
import pandas as pd
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from promptstudy.clip import text
from promptstudy.clip.image_features import encode_images
from promptstudy.datasets.draws import WHOLE
from promptstudy.params import load_params
from promptstudy.plans import count_steps, plan, schedule_of

# ASSUMED of one A100: what it sustains in single precision (half its peak), which training computes
# in, and in bfloat16 (a third of its peak), which features are extracted in; what a step takes at
# least, 3,000 operations being started; and 16 cores that decode.
TFLOPS_FP32, TFLOPS_BF16, STEP_SECONDS, CORES = 10, 100, 0.015, 16
CROP_SECONDS = 0.0033  # of one core for a crop of 500 x 375 pixels, decoding shared: extraction.csv

PAPER = load_params(Path(__file__).parents[1] / "params-paper.yaml")
SEEDS, VIEWS = len(PAPER.seeds), PAPER.features.views
WIDTH, BLOCKS, DIM = 512, 12, 512  # the text tower of all four backbones; RN50's DIM is 1024
BACKBONES = ("RN50-quickgelu", "RN101-quickgelu", "ViT-B-32-quickgelu", "ViT-B-16-quickgelu")


class Dataset(NamedTuple):
    """Numbers of classes, of images, and of the tokens of all class names."""

    classes: int
    train: int
    others: int  # val and test
    tokens: int

    @property
    def drawn(self):
        """Training images that are encoded: of a large dataset those of some draw, at most."""
        drawn = sum(PAPER.shots) * SEEDS * self.classes
        return self.train if self.train <= WHOLE else min(drawn, self.train)

    @property
    def base(self):
        """The base half of the classes."""
        return self._replace(classes=-(-self.classes // 2), tokens=self.tokens / 2)


LONGEST = 13  # tokens of ImageNet's longest class name, to which "one piece" pads all
DATASETS = {  # class names as in CoOp's code, with "." and the end of text
    "imagenet": Dataset(1000, 1_277_167, 54_000, 4165),
    "caltech101": Dataset(100, 4128, 4114, 347),
    "oxford_pets": Dataset(37, 2944, 4405, 154),
    "stanford_cars": Dataset(196, 6509, 9676, 2065),
    "oxford_flowers": Dataset(102, 4093, 4096, 463),
    "food101": Dataset(101, 50_500, 50_500, 421),
    "fgvc_aircraft": Dataset(100, 3334, 6666, 724),
    "sun397": Dataset(397, 15_880, 23_820, 1580),
    "dtd": Dataset(47, 2820, 2820, 186),
    "eurosat": Dataset(10, 13_500, 13_500, 44),
    "ucf101": Dataset(101, 7639, 5681, 414)}
SHIFTED = 10_000 + 50_889 + 7_500 + 30_000  # test images of ImageNetV2, -Sketch, -A and -R


def text_gflop(dataset, runs, per_token, passes):
    """Return GFLOP of a step through the text tower, as `TextEncoder` runs it."""
    token_bytes = runs * text.HELD_WIDTHS * WIDTH * BLOCKS * 4
    again = max(0, 1 - text.HELD / (dataset.tokens * token_bytes))  # share computed again
    return runs * dataset.tokens * per_token * (passes + again) / 2


def training(name, method, per_token):
    """Return (runs, steps, PFLOP, hours) of everything that a method trains on a dataset."""
    settings = plan(PAPER, method, name)
    steps = flop = seconds = 0
    for setting in settings:
        part = DATASETS[name].base if setting.protocol == "base_to_new" else DATASETS[name]
        schedule = schedule_of(PAPER, method, name, setting)
        images = min(part.classes * setting.shots, part.train)
        count = count_steps(schedule, setting.shots, images)
        if method == "aape":  # no text; each image, or each pair of one and a class, has an MLP
            pairs = part.classes if setting.variant.projection == "class" else 2
            step = 3 * 2 * DIM**2 * SEEDS * schedule.batch_size * pairs
        else:
            runs = SEEDS * getattr(setting.variant, "n_prompts", 1)
            if method == "cocoop":  # every image has prompts of its own
                runs *= schedule.batch_size
            passes = 3 if method == "prograd" else 2  # it has two gradients
            step = 1e9 * text_gflop(part, runs, per_token, passes)
        steps, flop = steps + count, flop + count * step
        seconds += count * max(STEP_SECONDS, step / (TFLOPS_FP32 * 1e12))
    return len(settings) * SEEDS, steps, flop / 1e15, seconds / 3600


def image_gflop(name):
    """Return GFLOP of one image through the image tower, local features included."""
    with torch.device("meta"):
        model = open_clip.create_model(name, device="meta")
        size = open_clip.get_model_preprocess_cfg(model)["size"]
        images = torch.empty(1, 3, *([size] * 2 if isinstance(size, int) else size))
    with FlopCounterMode(display=False) as counter:
        encode_images(model.eval(), images)
    return counter.get_total_flops() / 1e9


def main():
    table = pd.read_csv(Path(__file__).with_name("imagenet_step.csv"))
    coop, imagenet = table.query("form == 'one piece'"), DATASETS["imagenet"]
    per_token = coop["gflop"].item() / (imagenet.classes * LONGEST)
    stages = yaml.safe_load((Path(__file__).parents[1] / "dvc.yaml").read_text())["stages"]
    n_stages = sum({None: 1, "${datasets}": len(DATASETS)}.get(stage.get("foreach"), 0)
                   for stage in stages.values() if not stage.get("frozen"))
    print(f"{n_stages} stages a backbone; {per_token:.4f} GFLOP a token and step\n")

    print(f"{'training':10} {'runs':>6} {'steps':>10} {'PFLOP':>8} {'hours':>7}")
    total = [0, 0, 0, 0]
    for method in PAPER.methods:
        columns = zip(*(training(name, method, per_token) for name in DATASETS), strict=True)
        sums = [sum(column) for column in columns]
        total = [a + b for a, b in zip(total, sums, strict=True)]
        print(f"{method:10} {sums[0]:6} {sums[1]:10,} {sums[2]:8.1f} {sums[3]:7.1f}")
    print(f"{'all':10} {total[0]:6} {total[1]:10,} {total[2]:8.1f} {total[3]:7.1f}")

    decoded = SHIFTED + sum(dataset.drawn + dataset.others for dataset in DATASETS.values())
    images = decoded + VIEWS * sum(dataset.drawn for dataset in DATASETS.values())
    decoding = images * CROP_SECONDS / CORES / 3600
    print(f"\nfeatures: {decoded:,} images, {images:,} with their views; decoding {decoding:.1f} h")
    hours = 0
    for name in BACKBONES:
        gflop = image_gflop(name)
        encoding = images * gflop / TFLOPS_BF16 / 1000 / 3600
        extraction = max(encoding, decoding)
        hours += extraction + total[3]
        print(f"{name:20} {gflop:5.1f} GFLOP an image, {images * gflop / 1e6:6.1f} PFLOP, "
              f"extraction {extraction:.1f} h, with training {extraction + total[3]:.1f} h")
    print(f"\nall four backbones: {len(BACKBONES) * n_stages} stages, {hours:.0f} hours")


if __name__ == "__main__":
    main()
