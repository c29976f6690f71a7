"""One loop that trains many runs at once.

Runs that share a schedule differ only in their images, their order and their starting point, so
they are stacked on a leading run axis R. Losses are per run and the optimiser works elementwise,
so each run is what it would be on its own.
"""

import math
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from .code import training_sha256
from .datasets.packs import PackSplit
from .errors import DamagedFile, DivergedError, MissingFile
from .files import cached, json_sha256, load_tensors, save_tensors
from .methods import registry
from .methods.losses import Batch
from .params import Schedule, Setting
from .plans import count_epochs, count_steps, plan, schedule_of, training_draws
from .task import Task

AT_ONCE = 4  # the most settings that train side by side on a CPU: each needs its own memory


def learning_rate(schedule: Schedule, epoch: int, n_epochs: int) -> float:
    """Return the learning rate of an epoch, counted from 0, as CoOp's code sets it.

    A constant warm-up, then lr/2 (1 + cos(pi (e - W) / E)): the cosine ends W epochs early.
    """
    if epoch < schedule.warmup_epochs:
        return schedule.warmup_lr
    progress = (epoch - schedule.warmup_epochs) / n_epochs
    return schedule.lr / 2 * (1 + math.cos(math.pi * progress))


def epoch_batches(n_images: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return an epoch's batches as index tensors, shuffled by `generator`.

    A last short batch is dropped unless it is the only one, as in CoOp's loader.
    """
    order = torch.randperm(n_images, generator=generator)
    full = n_images // batch_size * batch_size
    return order[:full or n_images].split(batch_size)


class Stopped(Exception):
    """The training was told to stop."""


def train(method: Any, images: PackSplit, draws: Tensor, schedule: Schedule, shots: int,
          seeds: Sequence[int], progress: tqdm | None = None,
          stop: threading.Event | None = None) -> Tensor:
    """Train `method` in place and return its losses [steps, R].

    images: the pack's training images; draws: their indices [R, N], one row per run; `seeds` [R]
    order the images and pick the augmented views, independently for every run. `progress` is a
    bar that advances with every step. Raises `DivergedError` naming the seed and step of a loss
    that is not finite, and `Stopped` before the next step once the event `stop` is set.
    """
    device = next(method.parameters()).device
    features, labels, views = (t.to(device) for t in (images.features, images.labels, images.views))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    optimizer = torch.optim.SGD(method.parameters(), lr=schedule.lr, momentum=schedule.momentum,
                                weight_decay=schedule.weight_decay)
    n_epochs = count_epochs(schedule, shots, draws.shape[1])
    losses: list[Tensor] = []
    for epoch in range(n_epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(schedule, epoch, n_epochs)
        orders = zip(*(epoch_batches(draws.shape[1], schedule.batch_size, generator)
                       for generator in generators), strict=True)
        for order in orders:
            if stop is not None and stop.is_set():
                raise Stopped
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


def train_plan(task: Task, method: str) -> dict[str, Tensor]:
    """Return what a method learned in every setting of its `plan`; train what is not trained yet.

    Returns the learned parameters `SETTING/PARAMETER` [R, ...] and `SETTING/losses` [steps, R].
    They are stored as the method's artefact with their `provenance`; an artefact of the same
    provenance is loaded instead. Each setting is saved as soon as it is trained: after a crash or
    an interruption the next call continues with the others. An interruption (Ctrl-C, Jupyter's
    stop button, SIGTERM) takes effect within one step.
    """
    params, dataset, record = task.params, task.name, provenance(task, method)
    artefact = params.artefact(method, dataset)
    try:
        tensors = load_tensors(artefact, record)[0]
        print(f"{method} on {dataset}: loaded, trained before with the same code, data and params")
        return tensors
    except MissingFile:
        pass  # never trained
    except DamagedFile as error:
        print(f"{method} on {dataset} is trained again: {error}")
    settings, folder = plan(params, method, dataset), params.root / ".work" / method / dataset
    drawn = [training_draws(params, task.pack, setting) for setting in settings]
    schedules = [schedule_of(params, method, dataset, setting) for setting in settings]
    steps = [count_steps(schedule, setting.shots, draws.shape[1])
             for schedule, setting, (draws, _) in zip(schedules, settings, drawn, strict=True)]
    build, stop = registry.load(method).build, threading.Event()
    for setting, (draws, names) in zip(settings, drawn, strict=True):
        # raises what does not fit before anything is trained; encodes texts here, on all cores
        build(task, setting, names, draws)

    def learn(number):
        setting, (draws, names), before = settings[number], drawn[number], True

        def compute():
            nonlocal before
            before = False
            model = build(task, setting, names, draws)
            losses = train(model, task.pack.train, draws, schedules[number], setting.shots,
                           params.seeds, progress, stop)
            learned = {n: p.detach().cpu() for n, p in model.named_parameters()
                       if p.requires_grad and not n.startswith(getattr(model, "discarded", ()))}
            return {**learned, "losses": losses}

        path = folder / f"{setting.key.replace('/', '_')}.safetensors"
        learned = cached(path, {**record, "setting": setting.key}, compute)
        progress.update(steps[number] * before)
        return learned

    device = next(task.backbone.model.parameters()).device
    longest_first = sorted(range(len(settings)), key=steps.__getitem__, reverse=True)
    with tqdm(total=sum(steps), desc=f"{method} on {dataset}, {len(settings)} settings",
              unit="step") as progress:
        learned = dict(zip(longest_first, side_by_side(learn, longest_first, device, stop),
                           strict=True))
    tensors = {f"{setting.key}/{name}": tensor for number, setting in enumerate(settings)
               for name, tensor in learned[number].items()}
    save_tensors(artefact, tensors, {**record, "computed_by": _computed_by(device)})
    shutil.rmtree(folder)
    return tensors


def _computed_by(device):
    """Return what else the last digits of learned numbers depend on: recorded, never compared."""
    return {"torch": torch.__version__, "device": device.type, "threads": torch.get_num_threads()}


def provenance(task: Task, method: str) -> dict[str, Any]:
    """Return the provenance record of a method's learned tensors on a dataset."""
    params, pack, backbone = task.params, task.pack, task.backbone
    record = {"method": method, "code": training_sha256(method), "seeds": params.seeds,
              "shots": params.shots, "settings": getattr(params, method).model_dump(mode="json"),
              "class_names": pack.class_names,
              **{key: pack.provenance[key] for key in ("images", "views", "local_grid")},
              "image_fingerprint": backbone.image_fingerprint,
              "text_fingerprint": backbone.text_fingerprint}
    if task.name == params.transfer.source:
        record["transfer"] = params.transfer.shots
    texts = registry.load(method).texts(task)
    return record if texts is None else {**record, "texts": json_sha256(texts)}


def side_by_side(function: Callable[[Any], Any], items: Sequence[Any], device: torch.device,
                 stop: threading.Event | None = None) -> list[Any]:
    """Return `[function(item), ...]`; on a CPU several run at once, in threads that share cores.

    Small operations do not keep several cores busy, so each item gets a share of the cores; a GPU
    takes the items in turn. After a failure, running items finish and no others start. An
    interruption sets the event `stop`, which the function must heed, and is raised once it has.
    """
    cores = torch.get_num_threads()
    at_once = min(AT_ONCE, cores, len(items)) if device.type == "cpu" else 1
    pool = ThreadPoolExecutor(at_once, initializer=torch.set_num_threads,
                              initargs=(cores // at_once,))
    try:
        futures = [pool.submit(function, item) for item in items]
        pending = set(futures)
        while pending and not any(future.exception() for future in set(futures) - pending):
            # wakes up regularly, as an interruption may reach another thread of the process
            _, pending = wait(pending, timeout=0.5, return_when="FIRST_EXCEPTION")
    except BaseException:  # raised in this thread, while it waits: an interruption
        if stop is not None:
            stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)
    return [future.result() for future in futures]


def learned_by(tensors: dict[str, Tensor], setting: Setting) -> dict[str, Tensor]:
    """Return `{parameter: [R, ...]}` of one setting from what `train_plan` returned or saved."""
    prefix = f"{setting.key}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()
            if name.startswith(prefix)}
