"""How DuAl-PT's settings were chosen: on validation images, never on test images.

    python benchmarks/choose_dualpt.py

Trains DuAl-PT on each dataset with one thing changed at a time, and scores it on the validation
images. Few-shot is scored over all classes. For base-to-new the base classes are halved once more:
trained on the first half, scored on both, so that no choice ever sees a new class. Test images are
not looked at. Every trained model is scored with several weights of the local scores (beta).

Needs the features and describe stages (`dvc repro features describe`), takes about 40 minutes on
two cores, and writes benchmarks/choose_dualpt.csv.
"""

import itertools
from pathlib import Path

import pandas as pd
from torch.nn import functional as F
from validation import base_to_new_means, changed, halved, scored

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.descriptions import encode_descriptions
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack
from promptstudy.llm.descriptions import load_descriptions
from promptstudy.methods.dualpt import DuAlPT
from promptstudy.params import ContextParams, DuAlPTVariant, Setting, load_params
from promptstudy.training import train

WORDS = ContextParams(n_ctx=4, init="a photo of a")
BETAS = (0.0, 0.3, 1.0)
START = {"lr": 0.01}  # what changes are made to
CHANGES = {
    "none": {}, "lr 0.02": {"lr": 0.02}, "lr 0.03": {"lr": 0.03},
    "lambda 0": {"lambda_text": 0.0}, "lambda 4": {"lambda_text": 4.0},
    "text mean": {"text_align": "mean"}, "text infonce": {"text_align": "infonce"},
    "text kl": {"text_align": "kl"},
    "alpha 0": {"alpha": 0.0}, "local topk": {"local_align": "topk"},
    "neither": {"alpha": 0.0, "lambda_text": 0.0}}


def scores(params, pack, backbone, encoder, descriptions, setting, schedule):
    """Return rows of the validation accuracies of one setting: `beta`, `subset`, mean and std."""
    draws, subsets = halved(params, pack, setting)
    seen = next(iter(subsets.values()))
    method = DuAlPT(encoder, pack.class_names[seen], setting.variant, backbone.logit_scale,
                    seeds=params.seeds, train_local=pack.train.local,
                    descriptions=descriptions.of(seen))
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    features, local = (F.normalize(t, dim=-1) for t in (pack.val.features, pack.val.local))
    rows = []
    for beta, (subset, classes) in itertools.product(BETAS, subsets.items()):
        variant = setting.variant.model_copy(update={"beta_infer": beta})
        trained = DuAlPT(encoder, pack.class_names[classes], variant, backbone.logit_scale,
                         contexts=method.contexts.detach())
        accuracy = scored(pack, classes, lambda images, trained=trained: trained.predict(
            features[images], local[images]))
        rows.append({"beta": beta, "subset": subset, **accuracy})
    return rows


def main():
    params = load_params()
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    settings = [Setting("few_shot", DuAlPTVariant(n_prompts=2), 1),
                Setting("few_shot", DuAlPTVariant(n_prompts=2), 16),
                Setting("base_to_new", DuAlPTVariant(n_prompts=2, context=WORDS), 16)]
    rows = []
    for name, setting, (title, change) in itertools.product(params.datasets, settings,
                                                            CHANGES.items()):
        pack = FeaturePack.load(params.artefact("features", name))
        texts = load_descriptions(params, name, pack.class_names).texts
        descriptions = encode_descriptions(encoder, texts, pack.class_names)
        variant, schedule = changed(setting, params.dualpt.schedule, START | change)
        for row in scores(params, pack, backbone, encoder, descriptions, variant, schedule):
            rows.append({"dataset": name, "protocol": setting.protocol, "shots": setting.shots,
                         "change": title, **row})
            print(*rows[-1].values(), sep="\t", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(summary(table).round(1))


def summary(table):
    """Return what is chosen by: means over datasets, and H of the base classes' halves."""
    few_shot = table[table["protocol"] == "few_shot"].pivot_table(
        index=["change", "beta"], columns="shots", values="val_accuracy", sort=False)
    return few_shot.assign(few_shot=few_shot.mean(axis=1)).join(
        base_to_new_means(table, ["change", "beta"]))


if __name__ == "__main__":
    main()
