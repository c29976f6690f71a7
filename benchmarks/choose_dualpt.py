"""How DuAl-PT's settings were chosen: on validation images, never on test images.

    python benchmarks/choose_dualpt.py

Trains DuAl-PT on the few-shot draws of each dataset, as `params.yaml` has it and with one setting
changed at a time, and scores each on the validation images: all classes for few-shot, base classes
for base-to-new. New classes and test images are not looked at. Needs the features and describe
stages (`dvc repro features describe`), takes about TIME minutes on two cores, and writes
benchmarks/choose_dualpt.csv.
"""

from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional as F
from tqdm import tqdm

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.descriptions import encode_descriptions, read_descriptions
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack
from promptstudy.evaluation import top1
from promptstudy.methods.dualpt import DuAlPT
from promptstudy.params import Setting, load_params
from promptstudy.training import train, training_draws

CHANGES = [
    {}, {"lr": 0.03}, {"lr": 0.2},
    {"text_align": "mean"}, {"text_align": "infonce"}, {"text_align": "kl"},
    {"lambda_text": 0.0}, {"lambda_text": 4.0}, {"eps_text": 0.1},
    {"local_align": "topk"}, {"local_align": "attn"}, {"sinkhorn_eps": 0.02},
    {"alpha": 0.0, "beta_infer": 0.0}, {"alpha": 0.5}, {"beta_infer": 0.0}, {"beta_infer": 2.0}]
SHOTS = (1, 16)


def validation_accuracy(params, pack, backbone, encoder, descriptions, setting, schedule):
    """Return the validation accuracy [R] of one setting, over the classes it was trained on."""
    draws, names = training_draws(params, pack, setting)
    method = DuAlPT(encoder, names, setting.variant, backbone.logit_scale, seeds=params.seeds,
                    train_local=pack.train.local, descriptions=descriptions.of(slice(len(names))))
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    seen = pack.val.labels < len(names)
    features, local = (F.normalize(part[seen], dim=-1) for part in
                       (pack.val.features, pack.val.local))
    return top1(method.predict(features, local), pack.val.labels[seen])


def main():
    params = load_params()
    block = params.dualpt
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    settings = [Setting("few_shot", block.few_shot, shots) for shots in SHOTS]
    settings.append(Setting("base_to_new", block.base_to_new, params.base_to_new_shots))
    rows = []
    for name in params.datasets:
        pack = FeaturePack.load(params.artefact("features", name))
        descriptions = encode_descriptions(encoder, read_descriptions(params, name),
                                           pack.class_names)
        for change in tqdm(CHANGES, desc=name):
            schedule = block.schedule.model_copy(update={"lr": change.get("lr", block.schedule.lr)})
            for setting in settings:
                values = {key: value for key, value in change.items() if key != "lr"}
                changed = setting._replace(variant=setting.variant.model_copy(update=values))
                try:
                    accuracy = validation_accuracy(params, pack, backbone, encoder, descriptions,
                                                   changed, schedule)
                except FloatingPointError:
                    accuracy = torch.full((len(params.seeds),), torch.nan)
                rows.append({"dataset": name, "setting": f"{setting.protocol}/{setting.shots}",
                             "change": ", ".join(f"{k} {v}" for k, v in change.items()) or "none",
                             "val_accuracy": round(accuracy.mean().item(), 2),
                             "std": round(accuracy.std(correction=0).item(), 2)})
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    means = table.pivot_table(index="change", columns="setting", values="val_accuracy", sort=False)
    print(means.assign(mean=means.mean(axis=1)).round(2))


if __name__ == "__main__":
    main()
