"""Which settings a suite trains on a dataset, on which images, and with which schedule."""

import torch
from torch import Tensor

from .datasets.packs import FeaturePack
from .datasets.subsets import base_and_new
from .params import Params, Schedule, Setting


def plan(params: Params, method: str, dataset: str) -> list[Setting]:
    """Return every `Setting` of a method that the suite trains on a dataset, each once."""
    settings = _tested_there(params, method, dataset)
    if dataset == params.transfer.source:
        settings.append(transferred(params, method))
    return list({setting.key: setting for setting in settings}.values())


def transferred(params: Params, method: str) -> Setting:
    """Return the `Setting` of a method that is trained on the source to be tested elsewhere.

    If the suite trains the same variant few-shot with the same schedule, it is that setting.
    """
    variant, source = getattr(params, method).base_to_new, params.transfer.source
    few_shot, alone = (Setting(protocol, variant, params.transfer.shots)
                       for protocol in ("few_shot", "transfer"))
    schedules = [schedule_of(params, method, source, setting) for setting in (few_shot, alone)]
    known = few_shot in _tested_there(params, method, source) and schedules[0] == schedules[1]
    return few_shot if known else alone


def _tested_there(params, method, dataset):
    """The settings of a method that are trained on a dataset to be tested on it."""
    block = getattr(params, method)
    if dataset in params.captioned:  # every image is a class of its own, so there is one per class
        return [Setting("retrieval", block.retrieval, 1)]
    few_shot = params.shots if block.few_shot else ()
    settings = [Setting("few_shot", block.few_shot, shots) for shots in few_shot]
    settings.append(Setting("base_to_new", block.base_to_new, params.base_to_new_shots))
    if hasattr(block, "retrieval"):
        settings.append(Setting("retrieval", block.retrieval, params.base_to_new_shots))
    if dataset in block.ablation_datasets:
        settings += [Setting(block.ablation_protocol, variant, shots)
                     for variant in block.ablation_variants for shots in block.ablation_shots]
    return settings


def schedule_of(params: Params, method: str, dataset: str, setting: Setting) -> Schedule:
    """Return the `Schedule` that a method is trained with on a dataset in a `Setting`."""
    schedule, changes = getattr(params, method).schedule, {}
    if dataset in schedule.epochs_on:
        changes["epochs"] = dict.fromkeys(schedule.epochs, schedule.epochs_on[dataset])
    if setting.protocol in ("base_to_new", "transfer") and schedule.base_to_new_lr:
        changes["lr"] = schedule.base_to_new_lr
    return schedule.model_copy(update=changes)


def training_draws(params: Params, pack: FeaturePack, setting: Setting) -> tuple[Tensor, list[str]]:
    """Return `(indices [R, N] of each seed's training images, class names)` of a setting.

    Base-to-new draws over all classes and then keeps the base ones, so that its images are those
    of the few-shot run with the same seed.
    """
    draws = torch.stack([pack.draw(setting.shots, seed)[0] for seed in params.seeds])
    names = pack.class_names
    if setting.protocol == "base_to_new":
        base, _ = base_and_new(len(names))
        names = names[:len(base)]
        draws = torch.stack([draw[pack.train.labels[draw] < len(base)] for draw in draws])
    return draws, names


def count_epochs(schedule: Schedule, shots: int, n_images: int) -> int:
    """Return the number of epochs of a setting: that of its shots, limited by `max_steps`.

    Warm-up teaches nothing, so at least one epoch follows it, however many steps that is.
    """
    epochs = schedule.epochs[shots]
    if schedule.max_steps is not None:
        steps_per_epoch = max(1, n_images // schedule.batch_size)
        at_least = schedule.warmup_epochs + 1
        epochs = min(epochs, max(at_least, schedule.max_steps // steps_per_epoch))
    return epochs


def count_steps(schedule: Schedule, shots: int, n_images: int) -> int:
    """Return the number of optimisation steps of a setting."""
    return count_epochs(schedule, shots, n_images) * max(1, n_images // schedule.batch_size)
