"""Base-to-new over four divisions of the classes: one division of three datasets decides little.

    python benchmarks/divisions.py

CoOp's protocol calls the first half of the class list base. Here it is also the second half, every
second class, and the others, so that every class is base about as often as new. In each division
every method's base-to-new variant is trained and tested as in the pipeline, with the settings of
params.yaml. These were chosen on validation images of the first division's base classes, some of
which are new classes in the other divisions; no test image had a part in it.

Writes benchmarks/divisions.csv, a row for each run, and prints for each pair of methods the paired
difference in H, averaged over the divisions: its 95 % interval is about other test images and
seeds, p is after Holm's correction over all pairs. An image is drawn into a replicate for all
divisions alike. Needs the features and describe stages (`dvc repro features describe`). What is
trained already, in .work/divisions, is not trained again.
"""

import itertools
from pathlib import Path

import pandas as pd
import torch
from validation import orders, reordered, told

from promptstudy.claims.comparisons import Claim, ahead, decide
from promptstudy.claims.evidence import HAND_CRAFTED, Runs
from promptstudy.class_texts import sentences
from promptstudy.evaluation import Evaluation, subsets
from promptstudy.files import cached
from promptstudy.methods import registry
from promptstudy.params import Setting, load_params
from promptstudy.plans import schedule_of, training_draws
from promptstudy.results import METHODS, harmonic_mean
from promptstudy.statistics import resample_images
from promptstudy.training import provenance, side_by_side, train

ZERO_SHOT = "zero_shot"


def learned(task, method, setting):
    """Return what a method learns on the base classes of a task, {parameter: [R, ...]}."""
    params = task.params
    draws, names = training_draws(params, task.pack, setting)
    model = registry.load(method).build(task, setting, names, draws)
    train(model, task.pack.train, draws, schedule_of(params, method, task.name, setting),
          setting.shots, params.seeds)
    return {name: p.detach() for name, p in model.named_parameters()
            if p.requires_grad and not name.startswith(getattr(model, "discarded", ()))}


def right(task, method):
    """Return which test images of base and new classes are right, {subset: Boolean [R, n]}."""
    if method == ZERO_SHOT:
        predicted = {subset: next(task.hand_crafted_predictions(subset, [method]))[2][None]
                     for subset in subsets("base_to_new")}
    else:
        setting = Setting("base_to_new", task.params.methods[method].base_to_new,
                          task.params.base_to_new_shots)
        tensors, predicted = learned(task, method, setting), {}
        for subset in subsets("base_to_new"):
            model = registry.load(method).restore(task, setting, tensors, subset)
            predicted[subset] = registry.predictions(
                task.params, method, setting, model,
                task.inputs(model, subset))[setting.variant.label]
    return {subset: found == task.images_of(subset)[1] for subset, found in predicted.items()}


def accuracy(task, found, subset):
    """Return the accuracy [R, 1 + B] on a subset, measured and resampled.

    The draws are of all test images of the dataset, so that all its divisions share them.
    """
    of_subset = task.halves[subset]
    every = torch.zeros(len(found), len(of_subset), dtype=torch.bool)
    every[:, of_subset] = found
    counts = [resample_images(part.numpy(), task.name) for part in (every, of_subset[None])]
    return 100 * counts[0] / counts[1]


def measure(params, run):
    """Return `{subset: accuracy [R, 1 + B]}` of a run `(task, division, method)`."""
    task, division, method = run
    path = params.root / ".work" / "divisions" / f"{task.name}-{division}-{method}.safetensors"
    record = {"division": division, "class_names": task.class_names}
    if method != ZERO_SHOT:
        record |= provenance(task, method)
    found = cached(path, record, lambda: {
        subset: of_subset.byte() for subset, of_subset in right(task, method).items()})
    values = {subset: accuracy(task, of_subset.bool(), subset)
              for subset, of_subset in found.items()}
    values["H"] = harmonic_mean(values["base"], values["new"])
    print(f"{task.name:12} {division:12} {method:10} " + "  ".join(
        f"{subset} {value[:, 0].mean():5.1f}" for subset, value in values.items()), flush=True)
    return values


def averaged(params, runs, values, subset):
    """Return `{method: Runs}` of the values, averaged over divisions."""
    found = {}
    for (task, _, method), of_run in zip(runs, values, strict=True):
        seeds = [HAND_CRAFTED] if method == ZERO_SHOT else params.seeds
        for seed, value in zip(seeds, of_run[subset], strict=True):
            by_seed = found.setdefault(method, {}).setdefault(task.name, {})
            by_seed.setdefault(seed, []).append(value)
    return {method: Runs({name: {seed: sum(each) / len(each) for seed, each in by_seed.items()}
                          for name, by_seed in by_dataset.items()})
            for method, by_dataset in found.items()}


def main():
    params = load_params()
    tasks = []
    for name in params.datasets:
        whole = Evaluation.load(params, name)
        for division, order in orders(list(range(len(whole.class_names)))).items():
            task = Evaluation(params, reordered(whole.pack, order), whole.backbone, whole.encoder)
            said = {known: sentences(whole)[known] for known in task.class_names}
            tasks.append((told(task, said), division))
    methods = [ZERO_SHOT, *params.methods]
    runs = [(task, division, method) for (task, division), method
            in itertools.product(tasks, methods)]
    values = side_by_side(lambda run: measure(params, run), runs, torch.device("cpu"))
    rows = [{"dataset": task.name, "division": division, "method": method, "run": number + 1,
             **{subset: round(value[number, 0], 2) for subset, value in of_run.items()}}
            for (task, division, method), of_run in zip(runs, values, strict=True)
            for number in range(len(of_run["H"]))]
    frame = pd.DataFrame(rows)
    frame.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(frame.groupby(["division", "method"], sort=False)["H"].mean().unstack(0).round(1))

    sides = {subset: averaged(params, runs, values, subset) for subset in ("base", "new", "H")}
    print(pd.DataFrame({subset: {METHODS[method]: str(runs) for method, runs in of_subset.items()}
                        for subset, of_subset in sides.items()}))
    h = dict(sorted(sides["H"].items(), key=lambda item: -item[1].measured))
    for decision in decide([Claim("H", f"{METHODS[first]} above {METHODS[second]}", "",
                                  [ahead(h[first], h[second])])
                            for first, second in itertools.combinations(h, 2)]):
        print(f"{decision.claim.claim:36} {decision.weakest.difference}  p {decision.p:.3f}  "
              f"{decision.verdict}")


if __name__ == "__main__":
    main()
