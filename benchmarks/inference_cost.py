"""What inference costs with zero-shot CLIP, CoOp, CoCoOp and AAPE.

    python benchmarks/inference_cost.py

Counts learned parameters and operations (torch's counter: a multiplication and an addition are
two) with the suite's backbone and the class names of its first dataset, and times the fastest of
several batches. `once` is what the class features cost before the first image; CoCoOp, whose
prompts depend on the image, makes them for every image; AAPE adapts the image's feature, and with
the class MLP every class's for every image, behind both encoders. None of them needs a language
model. Takes a minute and writes benchmarks/inference_cost.csv.
"""

import time
from pathlib import Path

import open_clip
import pandas as pd
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.features import class_names
from promptstudy.methods.aape import Classifier
from promptstudy.methods.cocoop import CoCoOp
from promptstudy.methods.coop import CoOp
from promptstudy.params import ContextParams, load_params
from promptstudy.params.methods.aape import AAPEVariant

THREADS, IMAGES, REPEATS = 2, 16, 5
CONTEXT = ContextParams(n_ctx=4, init="a photo of a")


def methods(encoder, names, template):
    """Yield `(name, parameters, what is computed once, prediction of normalised features)`."""
    def encode():
        return encoder.encode_templates(names, [template])

    templates = encode()
    yield "zero-shot", [], encode, lambda features: (features @ templates.T).argmax(dim=-1)
    coop = CoOp(encoder, names, ContextParams(), 1.0, seeds=[1])
    classes = coop.class_features()[0]
    yield ("CoOp M=16", [coop.contexts], coop.class_features,
           lambda features: (features @ classes.T).argmax(dim=-1))
    conditioned = CoCoOp(encoder, names, CONTEXT, 1.0, seeds=[1])
    learned = [conditioned.contexts, *conditioned.network.parameters()]
    yield "CoCoOp, M=4", learned, lambda: None, conditioned.predict
    for name, projection in (("AAPE", "language"), ("AAPE, class MLP", "class")):
        aape = Classifier(templates, AAPEVariant(projection=projection), 1.0, [1])
        yield name, list(aape.parameters()), encode, aape.predict


def operations(compute):
    """Return how many operations a function takes, in millions."""
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops() / 1e6


def fastest(compute):
    """Return the smallest number of seconds that a function takes."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.no_grad()
def main():
    torch.set_num_threads(THREADS)
    params = load_params()
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder, name = TextEncoder(backbone.model, backbone.tokenizer), params.dataset()
    names = class_names(params, name)
    size = open_clip.get_model_preprocess_cfg(backbone.model)["size"]
    size = [size, size] if isinstance(size, int) else size
    images = torch.randn(IMAGES, 3, *size).to(memory_format=torch.channels_last)
    features = F.normalize(backbone.model.encode_image(images), dim=-1)
    tower = fastest(lambda: backbone.model.encode_image(images))
    tower_operations = operations(lambda: backbone.model.encode_image(images)) / IMAGES
    rows = []
    for method, parameters, once, predict in methods(encoder, names,
                                                     params.datasets[name].template):
        seconds = fastest(lambda predict=predict: predict(features))
        rows.append({
            "method": method, "classes": len(names), "backbone": backbone.name,
            "learned_parameters": sum(p.numel() for p in parameters),
            "once_mflops": round(operations(once), 1),
            "image_tower_mflops": round(tower_operations, 1),
            "classifier_mflops": round(operations(lambda p=predict: p(features)) / IMAGES, 2),
            "images_per_second": round(IMAGES / (tower + seconds), 1),
            "classifier_images_per_second": round(IMAGES / seconds, 1)})
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(table.drop(columns=["classes", "backbone"]).to_string(index=False))


if __name__ == "__main__":
    main()
