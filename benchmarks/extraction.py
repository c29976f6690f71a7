"""How near feature extraction comes to the slower one of its two halves, decoding and encoding.

    python benchmarks/extraction.py

Drawn JPEGs of ImageNet's usual size, four views of each, through pocket CLIP and CLIP's ViT-B/32
with random weights. On a GPU decoding is to be the bound, so that `whole / decode` is near 1. On a
CPU both halves need the same cores: images are counted per second of one core, whatever else the
machine does, and a `whole / both` of 1 says that nothing is lost between them. Takes two minutes
on 2 cores and writes benchmarks/extraction.csv.
"""

import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader

from promptstudy.batches import Crops, encode_batch, on_gpu
from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.image_features import tower_input
from promptstudy.datasets.images import check_images
from promptstudy.datasets.splits import image_folder, load_dataset
from promptstudy.features import extract
from promptstudy.params import DatasetParams, load_params

GPU = torch.cuda.is_available()
DEVICE = torch.cuda.get_device_name() if GPU else "1 CPU core"
IMAGES, BATCH = (8192, 128) if GPU else (48, 4)


def draw(folder, count):
    """Write `count` JPEGs of 500 x 375 pixels and about 100 kB, and one test image."""
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("test", 1)):
        (folder / split / "a").mkdir(parents=True)
        for index in range(number):
            coarse = Image.fromarray(rng.integers(0, 256, (38, 50, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((500, 375), Image.BICUBIC), dtype=np.int16)
            pixels = (pixels + rng.normal(0, 9, pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / split / "a" / f"{index}.jpg", quality=90)


def clock():
    """Return seconds: those of all processes together, if the work is on the CPU."""
    if GPU:
        torch.cuda.synchronize()
        return time.perf_counter()
    return sum(os.times()[:4])


def rate(work):
    """Return how many images per second `work()` handles; it handles all of them."""
    start = clock()
    work()
    return IMAGES / (clock() - start)


def measure(name):
    """Return the images per second of each half and of the whole, with an image tower."""
    params = load_params()
    backbone = load_backbone(name, root=params.root)
    settings = params.features.model_copy(update={"batch_size": BATCH})
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        draw(folder / "drawn", IMAGES)
        params = params.model_copy(update={"data_root": folder, "features": settings,
                                           "datasets": {"drawn": DatasetParams(images="drawn")}})
        dataset, images = load_dataset(params, "drawn"), image_folder(params, "drawn")
        crops = Crops([(item, settings.views) for item in dataset.train], images,
                      check_images(dataset, images), backbone)

        def decode():
            for _ in DataLoader(crops, batch_size=None, num_workers=os.cpu_count()):
                pass

        def encode(count=IMAGES):
            for _ in range(count // BATCH):
                encode_batch(backbone.model, batch, settings, to_input, GPU)

        with on_gpu(backbone.model.visual) as device:
            to_input = tower_input(backbone.model, device)
            batch = torch.stack(list(islice(crops, BATCH))).to(device)
            encode(BATCH)  # warms up
            encoding = rate(encode)
        decoding = rate(decode)
        whole = rate(lambda: extract(params, "drawn", backbone,
                                     Path(tempfile.mkdtemp(dir=folder))))
    both = 1 / (1 / decoding + 1 / encoding)
    return {"backbone": backbone.name, "views": settings.views, "device": DEVICE,
            "decode": round(decoding, 1), "encode": round(encoding, 1),
            "whole": round(whole, 1), "whole / decode": round(whole / decoding, 2),
            "whole / encode": round(whole / encoding, 2), "whole / both": round(whole / both, 2)}


def main():
    torch.set_num_threads(1)
    names = load_params().backbone.name, "ViT-B-32-quickgelu"
    table = pd.DataFrame([measure(name) for name in names])
    print(table.T.to_string(header=False))
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
