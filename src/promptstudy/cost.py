"""What a suite costs, counted before anything runs: images, training steps, operations, memory.

Operations are those of matrix products, two for each multiplication with its addition. Times follow
from them and from what a machine does in a second (`Speed`), measured or assumed.
"""

import logging
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from .clip import text
from .clip.catalogue import LOCAL, model_config
from .clip.image_features import encode_images
from .clip.openclip import open_clip
from .datasets.draws import WHOLE
from .plans import count_steps, plan, schedule_of

PASSES = 2  # through the frozen text tower in a step: forward, and backward to its input
PASSES_OF = {"prograd": 3}  # it has two gradients
BASE_BYTES = 8e8  # of a process that has loaded torch, open_clip and scikit-learn


class Size(NamedTuple):
    """Numbers of a dataset: classes, training images, others, tokens of all class names.

    Each name counts with its full stop and the end of the text.
    """

    classes: int
    train: int
    others: int  # validation and test images
    tokens: float

    def drawn(self, params):
        """Return how many training images are encoded: of a large dataset those of some draw."""
        drawn = sum(params.shots) * len(params.seeds) * self.classes
        return self.train if self.train <= WHOLE else min(drawn, self.train)

    @property
    def base(self):
        """The base half of the classes."""
        return self._replace(classes=-(-self.classes // 2), tokens=self.tokens / 2)


class Tower(NamedTuple):
    """A text tower's sizes: width and number of its blocks, size of a text feature."""

    width: int
    blocks: int
    dim: int

    @classmethod
    def of(cls, params):
        """Return the sizes of the text tower of a suite's backbone, from open_clip's config."""
        config = model_config(params.backbone.name, params.root)
        return cls(config["text_cfg"]["width"], config["text_cfg"]["layers"], config["embed_dim"])

    @property
    def token_gflop(self):
        """GFLOP of a token's way through the tower, once; attention weights are not counted.

        A block takes 12 width^2 multiplications; of the last one, which is run for the end of the
        text alone, every token needs keys and values.
        """
        return (24 * (self.blocks - 1) + 4) * self.width**2 / 1e9


class Speed(NamedTuple):
    """What a machine does: GFLOP and images in a second, and the least seconds of a step."""

    gflop: float
    images: float
    least_step: float
    side_by_side: int = 1  # settings that train at once, each at this speed


class Work(NamedTuple):
    """What is to be done: `steps` are pairs (number of steps, GFLOP of each)."""

    runs: int = 0
    steps: tuple = ()
    images: int = 0  # views count as images
    held: float = 0.0  # bytes of activations that a setting holds at most

    @property
    def n_steps(self):
        """The number of training steps; the runs of a setting take a step together."""
        return sum(count for count, _ in self.steps)

    @property
    def pflop(self):
        """The operations of training, in PFLOP."""
        return sum(count * gflop for count, gflop in self.steps) / 1e6

    def at_once(self, speed):
        """Return how many settings train at a time."""
        return max(1, min(speed.side_by_side, len(self.steps)))

    def seconds(self, speed):
        """Return how long it takes at a `Speed`."""
        training = sum(count * max(speed.least_step, gflop / speed.gflop)
                       for count, gflop in self.steps)
        return training / self.at_once(speed) + self.images / speed.images

    def memory(self, speed):
        """Return how many bytes it takes at most, about; the settings share one process."""
        return BASE_BYTES + self.at_once(speed) * self.held

    def __add__(self, other):
        return Work(self.runs + other.runs, self.steps + other.steps, self.images + other.images,
                    max(self.held, other.held))


def text_gflop(size, runs, tower, passes=PASSES):
    """Return GFLOP of a step through the text tower, as `TextEncoder` runs it."""
    token_bytes = runs * text.HELD_WIDTHS * tower.width * tower.blocks * 4
    again = max(0, 1 - text.HELD / (size.tokens * token_bytes))  # share computed again
    return runs * size.tokens * tower.token_gflop * (passes + again)


def training(params, method, name, size, tower):
    """Return the `Work` of everything that a method trains on a dataset of that `Size`."""
    settings, steps, held = plan(params, method, name), [], 0
    seeds = len(params.seeds)
    for setting in settings:
        part = size.base if setting.protocol == "base_to_new" else size
        schedule = schedule_of(params, method, name, setting)
        images = min(part.classes * setting.shots, part.train)
        if method == "aape":  # no text; each image, or each pair of one and a class, has an MLP
            per_image = part.classes if setting.variant.projection == "class" else 2
            pairs = seeds * schedule.batch_size * per_image
            gflop, stored = 3 * 2 * tower.dim**2 * pairs / 1e9, 4 * 4 * tower.dim * pairs
        else:
            runs = seeds * getattr(setting.variant, "n_prompts", 1)
            if method == "cocoop":  # every image has prompts of its own
                runs *= schedule.batch_size
            gflop = text_gflop(part, runs, tower, PASSES_OF.get(method, PASSES))
            stored = runs * part.tokens * text.HELD_WIDTHS * tower.width * tower.blocks * 4
        steps.append((count_steps(schedule, setting.shots, images), gflop))
        held = max(held, min(stored, text.HELD * (1 + 1 / text.CHUNKS)))
    return Work(len(settings) * seeds, tuple(steps), held=held)


def encoding(params, size):
    """Return the `Work` of computing a dataset's features from its images."""
    drawn = size.drawn(params)
    return Work(images=drawn * (1 + params.features.views) + size.others)


def image_gflop(name, root="."):
    """Return GFLOP of one image through the image tower of a model, local features included."""
    model = untrained(name, root)[0].to("meta")
    with FlopCounterMode(display=False) as counter:
        encode_images(model.eval(), torch.empty(*image_shape(model, 1), device="meta"))
    return counter.get_total_flops() / 1e9


def untrained(name, root):
    """Return open_clip's model `name`, with random weights, and its tokenizer's name there.

    A `local-dir:` folder is relative to `root`.
    """
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that the weights are random
    source = f"{LOCAL}{root / name.removeprefix(LOCAL)}" if name.startswith(LOCAL) else name
    return open_clip.create_model(source, load_weights=False), source


def image_shape(model, count):
    """Return the shape [count, 3, height, width] of images for a model, as a tuple."""
    size = open_clip.get_model_preprocess_cfg(model)["size"]
    return count, 3, *([size] * 2 if isinstance(size, int) else size)
