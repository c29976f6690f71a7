"""One loop that trains many runs at once.

Runs that share a schedule differ only in their images, their order and their starting point, so
they are stacked on a leading run axis R. Losses are per run and the optimiser works elementwise,
so each run is what it would be alone.
"""

import hashlib
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F
from tqdm import tqdm

from .datasets.splits import base_and_new
from .errors import DamagedFile, DivergedError
from .files import json_sha256, load_tensors, save_tensors
from .params import Setting

AT_ONCE = 4  # settings at most that a processor trains side by side: each needs its own memory


class Batch(NamedTuple):
    """What a method's loss gets: one batch of images for each of R runs."""

    index: torch.Tensor  # [R, B] place of each image among the training images
    features: torch.Tensor  # [R, B, d] normalised global features
    labels: torch.Tensor  # [R, B]


def plan(params, method, dataset):
    """Return every `Setting` of a method that the suite trains on a dataset, each once."""
    settings = _tested_there(params, method, dataset)
    if dataset == params.transfer.source:
        settings.append(transferred(params, method))
    return list({setting.key: setting for setting in settings}.values())


def transferred(params, method):
    """Return the `Setting` of a method that is trained on the source to be tested elsewhere.

    Where the suite trains the same variant few-shot by the same schedule, it is that one.
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
    if dataset in params.captioned:  # every image is a class of its own, so there is one a class
        return [Setting("retrieval", block.retrieval, 1)]
    few_shot = params.shots if block.few_shot else ()
    settings = [Setting("few_shot", block.few_shot, shots) for shots in few_shot]
    settings.append(Setting("base_to_new", block.base_to_new, params.base_to_new_shots))
    if hasattr(block, "retrieval"):
        settings.append(Setting("retrieval", block.retrieval, params.base_to_new_shots))
    if dataset in block.study_datasets:
        settings += [Setting(block.study_protocol, variant, shots)
                     for variant in block.study_variants for shots in block.study_shots]
    return settings


def schedule_of(params, method, dataset, setting):
    """Return the `Schedule` that a method is trained with on a dataset in a `Setting`."""
    schedule, changes = getattr(params, method).schedule, {}
    if dataset in schedule.epochs_on:
        changes["epochs"] = dict.fromkeys(schedule.epochs, schedule.epochs_on[dataset])
    if setting.protocol in ("base_to_new", "transfer") and schedule.base_to_new_lr:
        changes["lr"] = schedule.base_to_new_lr
    return schedule.model_copy(update=changes)


def origin(params, method, pack, backbone, texts=None):
    """Return the record of what a method's learned tensors of a dataset depend on.

    texts: the descriptions `{class name: [sentence, ...]}` of a method that learns from them.
    """
    record = {"method": method, "seeds": params.seeds, "shots": params.shots,
              "settings": getattr(params, method).model_dump(mode="json"),
              "class_names": pack.class_names,
              **{key: pack.origin[key] for key in ("images", "views", "local_grid")},
              "image_fingerprint": backbone.image_fingerprint,
              "text_fingerprint": backbone.text_fingerprint}
    if pack.origin["dataset"] == params.transfer.source:
        record["transfer"] = params.transfer.shots
    return record if texts is None else {**record, "texts": json_sha256(texts)}


def learning_rate(schedule, epoch, n_epochs):
    """Return the learning rate of an epoch, counted from 0, as CoOp's code sets it.

    A constant warm-up, then lr/2 (1 + cos(pi (e - W) / E)): the cosine ends W epochs early.
    """
    if epoch < schedule.warmup_epochs:
        return schedule.warmup_lr
    progress = (epoch - schedule.warmup_epochs) / n_epochs
    return schedule.lr / 2 * (1 + math.cos(math.pi * progress))


def epoch_batches(n_images, batch_size, generator):
    """Return an epoch's batches as index tensors, shuffled by `generator`.

    A last short batch is dropped unless it is the only one, as in CoOp's loader.
    """
    order = torch.randperm(n_images, generator=generator)
    full = n_images // batch_size * batch_size
    return order[:full or n_images].split(batch_size)


def count_epochs(schedule, shots, n_images):
    """Return how many epochs a setting trains for: those of its shots, within `max_steps`.

    Warm-up teaches nothing, so one epoch follows it, however many steps that is.
    """
    epochs = schedule.epochs[shots]
    if schedule.max_steps is not None:
        steps_per_epoch = max(1, n_images // schedule.batch_size)
        at_least = schedule.warmup_epochs + 1
        epochs = min(epochs, max(at_least, schedule.max_steps // steps_per_epoch))
    return epochs


def count_steps(schedule, shots, n_images):
    """Return how many steps the epochs of a setting are."""
    return count_epochs(schedule, shots, n_images) * max(1, n_images // schedule.batch_size)


def train(method, images, draws, schedule, shots, seeds, progress=None):
    """Train `method` in place and return its losses [steps, R].

    images: the pack's training images; draws: their indices [R, N], one row a run; `seeds` [R]
    order the images and pick the augmented views, independently for every run. `progress` is a
    bar that is moved on with every step. Raises `FloatingPointError` naming the seed and step of a
    loss that is not finite.
    """
    device = next(method.parameters()).device
    features, labels, views = (t.to(device) for t in (images.features, images.labels, images.views))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    optimizer = torch.optim.SGD(method.parameters(), lr=schedule.lr, momentum=schedule.momentum,
                                weight_decay=schedule.weight_decay)
    n_epochs, losses = count_epochs(schedule, shots, draws.shape[1]), []
    for epoch in range(n_epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(schedule, epoch, n_epochs)
        orders = zip(*(epoch_batches(draws.shape[1], schedule.batch_size, generator)
                       for generator in generators), strict=True)
        for order in orders:
            index = draws.gather(1, torch.stack(order))
            chosen = features[index]
            if views.shape[1]:
                view = torch.stack([torch.randint(views.shape[1], index.shape[1:], generator=g)
                                    for g in generators])
                chosen = views[index, view]
            batch = Batch(index, F.normalize(chosen, dim=-1), labels[index])
            loss = method.loss(batch)
            _check_finite(loss, seeds, len(losses))
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            losses.append(loss.detach())
            if progress is not None:
                progress.update()
    return torch.stack(losses).cpu()


def _check_finite(loss, seeds, step):
    for seed, value in zip(seeds, loss.tolist(), strict=True):
        if not math.isfinite(value):
            raise DivergedError(f"the loss of seed {seed} is {value} at step {step}; "
                                "lower the learning rate in params.yaml")


def train_plan(params, method, pack, backbone, build, texts=None):
    """Train every setting of a method's `plan` and save what was learned as its artefact.

    `build(setting, class_names, draws)` returns the untrained method with one run a seed; draws
    [R, N] are the indices of each run's training images. Saved are the tensors `SETTING/PARAMETER`
    [R, ...] of the learned parameters and `SETTING/losses` [steps, R], with their `origin` (which
    see for `texts`). Each setting is kept on disk as soon as it is trained: after a crash the next
    call goes on with the others. Returns the tensors.
    """
    dataset, settings = pack.origin["dataset"], plan(params, method, pack.origin["dataset"])
    record, code = origin(params, method, pack, backbone, texts), code_sha256()
    folder = params.root / ".work" / method / dataset
    drawn = [training_draws(params, pack, setting) for setting in settings]
    schedules = [schedule_of(params, method, dataset, setting) for setting in settings]
    steps = [count_steps(schedule, setting.shots, draws.shape[1])
             for schedule, setting, (draws, _) in zip(schedules, settings, drawn, strict=True)]

    def learn(number):
        setting, (draws, names), before = settings[number], drawn[number], True

        def compute():
            nonlocal before
            before = False
            model = build(setting, names, draws)
            losses = train(model, pack.train, draws, schedules[number], setting.shots, params.seeds,
                           progress)
            learned = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
            return {**learned, "losses": losses}

        kept_at = folder / f"{setting.key.replace('/', '_')}.safetensors"
        learned = kept(kept_at, {**record, "setting": setting.key, "code": code}, compute)
        progress.update(steps[number] * before)
        return learned

    device = next(backbone.model.parameters()).device
    longest_first = sorted(range(len(settings)), key=steps.__getitem__, reverse=True)
    with tqdm(total=sum(steps), desc=f"{method} on {dataset}, {len(settings)} settings",
              unit="step") as progress:
        learned = dict(zip(longest_first, side_by_side(learn, longest_first, device), strict=True))
    tensors = {f"{setting.key}/{name}": tensor for number, setting in enumerate(settings)
               for name, tensor in learned[number].items()}
    save_tensors(params.artefact(method, dataset), tensors, record)
    shutil.rmtree(folder)
    return tensors


def side_by_side(function, items, device):
    """Return `[function(item), ...]`, on a processor some at once, in threads that share its cores.

    Many small operations keep several cores less busy than they would be with items of their own;
    a GPU takes the items in turn. After a failure what has begun is ended and no other begins.
    """
    cores = torch.get_num_threads()
    at_once = min(AT_ONCE, cores, len(items)) if device.type == "cpu" else 1
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads,
                                initargs=(cores // at_once,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(cores)


def learned_by(tensors, setting):
    """Return `{parameter: [R, ...]}` of one setting from what `train_plan` returned or saved."""
    prefix = f"{setting.key}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()
            if name.startswith(prefix)}


def training_draws(params, pack, setting):
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


def code_sha256():
    """Return the SHA-256 of this package's source: what a half-finished training depends on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kept(path, origin, compute):
    """Return the tensors that `compute()` gives, kept at `path` so that a crash loses nothing.

    A sound file made from the same `origin` is loaded instead; any other is replaced.
    """
    if path.exists():
        try:
            return load_tensors(path, expected=origin)[0]
        except DamagedFile:
            path.unlink()
    tensors = compute()
    save_tensors(path, tensors, origin)
    return tensors
