"""How much faster CoOp's settings are trained side by side on a processor's cores than in turn.

    python benchmarks/side_by_side.py

Trains every setting of a dataset with many classes and of one with few both ways, in at most 100
steps each, and says how far apart the learned contexts are. Needs the features stage (`dvc repro
features`); four minutes on two cores.
"""

import time
from unittest import mock

import torch

from promptstudy import plans, training
from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack
from promptstudy.methods.coop import CoOp
from promptstudy.params import load_params

DATASETS, STEPS = ("caltech101", "dtd10"), 100


def compare(params, dataset, backbone, encoder):
    """Print how long the settings of a dataset take both ways, and how their contexts differ."""
    pack = FeaturePack.load(params.artefact("features", dataset))

    def learn(setting):
        draws, names = plans.training_draws(params, pack, setting)
        method = CoOp(encoder, names, setting.variant, backbone.logit_scale, seeds=params.seeds)
        schedule = plans.schedule_of(params, "coop", dataset, setting)
        schedule = schedule.model_copy(update={"max_steps": STEPS})
        training.train(method, pack.train, draws, schedule, setting.shots, params.seeds)
        return method.contexts.detach()

    settings = plans.plan(params, "coop", dataset)
    took, learned = {}, {}
    for way, at_once in (("in turn", 1), ("side by side", training.AT_ONCE)):
        with mock.patch.object(training, "AT_ONCE", at_once):
            start = time.perf_counter()
            learned[way] = training.side_by_side(learn, settings, torch.device("cpu"))
        took[way] = time.perf_counter() - start
        print(f"{dataset}, {len(settings)} settings {way}: {took[way]:.1f} s", flush=True)
    apart = max((a - b).abs().max().item() for a, b in zip(*learned.values(), strict=True))
    faster = took["in turn"] / took["side by side"]
    print(f"{faster:.2f} times faster; contexts differ by {apart:.1e} at most")


def main():
    params = load_params()
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    for dataset in DATASETS:
        compare(params, dataset, backbone, encoder)


if __name__ == "__main__":
    main()
