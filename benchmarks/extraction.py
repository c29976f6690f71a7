"""How near feature extraction comes to the slower one of its two halves, decoding and encoding.

    python benchmarks/extraction.py [MODEL]

Drawn JPEGs of ImageNet's usual size, four views of each; MODEL is an open_clip architecture, here
with random weights, and pocket CLIP without one. On a GPU decoding is to be the bound, so that
`whole / decode` is near 1; on a CPU both halves need the same cores, and a `whole / both` of 1 says
that nothing is lost between them. On 2 cores:

    EXTRACTION_TABLE
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from promptstudy import features
from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.image_features import tower_input
from promptstudy.datasets.images import check_images
from promptstudy.datasets.splits import image_folder, load_dataset
from promptstudy.params import DatasetParams, load_params

GPU = torch.cuda.is_available()
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


def rate(count, work):
    """Return how many images a second `work()` does, which does `count`."""
    start = time.perf_counter()
    work()
    if GPU:
        torch.cuda.synchronize()
    return count / (time.perf_counter() - start)


def main(model=None):
    params = load_params()
    backbone = load_backbone(model or params.backbone.name, root=params.root)
    settings = params.features.model_copy(update={"batch_size": BATCH})
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "drawn", IMAGES)
        params = params.model_copy(update={
            "data_root": Path(folder), "features": settings,
            "datasets": {"drawn": DatasetParams(images="drawn")}})
        dataset, images = load_dataset(params, "drawn"), image_folder(params, "drawn")
        digests = check_images(dataset, images)
        crops = features.Crops([(item, settings.views) for item in dataset.train], images, digests,
                               backbone)

        def decode(processes):
            for _ in DataLoader(crops, batch_size=None, num_workers=processes):
                pass

        def encode(count):
            for _ in range(count // BATCH):
                features._encode_batch(backbone.model, batch, settings, to_input, GPU)

        with features._on_gpu(backbone.model.visual) as device:
            to_input = tower_input(backbone.model, device)
            batch = torch.stack(list(islice(crops, BATCH))).to(device)
            encode(BATCH)  # warms up
            encoding = rate(IMAGES, lambda: encode(IMAGES))
        processes = features.os.cpu_count()
        decoding = {n: rate(IMAGES, lambda n=n: decode(n)) for n in (1, processes)}
        whole = rate(IMAGES, lambda: features.extract(params, "drawn", backbone,
                                                      Path(folder) / "cache"))
    both = 1 / (1 / decoding[processes] + 1 / encoding)
    print(f"{backbone.name}: images a second, each with {settings.views} views")
    for name, value in (("decode alone, 1 process", decoding[1]),
                        (f"decode alone, {processes} processes", decoding[processes]),
                        ("encode alone", encoding), ("whole", whole)):
        print(f"{name:26} {value:8.1f}")
    for name, value in (("decode", decoding[processes]), ("encode", encoding), ("both", both)):
        print(f"whole / {name:18} {whole / value:8.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
