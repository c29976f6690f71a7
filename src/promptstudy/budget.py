"""What the stages of a suite will cost: `promptstudy plan`, and the first line of `make repro`."""

import heapq
from collections.abc import Iterable

import pandas as pd
import yaml

from .cost import Size, Speed, Tower, Work, encoding, training
from .params import Params
from .sizes import size_of

# MEASURED in the pocket suite on 2 cores: a stage that loads torch, reads its features and writes
# a page takes 8 to 20 seconds beside its own work.
STAGE_SECONDS = 12
UNSURE = 2  # a factor: what such a count is off by, on an otherwise idle machine
LISTS = {"${datasets}": "datasets", "${captioned}": "captioned"}


def stages_of(params: Params) -> list[str]:
    """Return the names of all stages of the suite's dvc.yaml that can run, as DVC writes them."""
    text = (params.root / "dvc.yaml").read_text(encoding="utf-8")
    names = []
    for name, stage in yaml.safe_load(text)["stages"].items():
        if stage.get("frozen"):
            continue
        keys = getattr(params, LISTS[stage["foreach"]]) if "foreach" in stage else None
        names += [name] if keys is None else [f"{name}@{key}" for key in keys]
    return names


def work_of(params: Params, stages: Iterable[str]) -> dict[str, Work]:
    """Return the `Work` of every stage, `{stage: Work}`; pages, scores and probes count as none."""
    tower = Tower.of(params)
    sizes: dict[str, Size] = {}

    def size(name):
        if name not in sizes:
            sizes[name] = size_of(params, name)
        return sizes[name]

    return {stage: _work(params, stage, tower, size) for stage in stages}


def _work(params, stage, tower, size):
    kind, _, name = stage.partition("@")
    from_images = params.data_root is not None
    if kind in params.methods:
        return training(params, kind, name, size(name), tower)
    if kind == "captions":
        work = training(params, "aape", name, size(name), tower) if params.aape else Work()
        return work + encoding(params, size(name)) if from_images else work
    if kind == "features" and from_images:
        return encoding(params, size(name))
    if kind == "shifted" and from_images:
        return Work(images=sum(size(each).others for each in params.transfer.domain))
    return Work()


def hours_of(work: Work, speed: Speed) -> float:
    """Return the hours of a stage with that `Work`, its start and its page included."""
    return (work.seconds(speed) + STAGE_SECONDS) / 3600


def elapsed(after: dict[str, list[str]], hours: dict[str, float],
            at_once: int | None = None) -> float:
    """Return the hours until all jobs have ended, `at_once` of them at a time (default: all).

    after: `{job: [jobs that it waits for]}`, hours: `{job: hours}`. A job begins as soon as it can,
    and of several the first.
    """
    ended: dict[str, float] = {}
    waiting, free = list(after), [0.0] * (at_once or len(after))
    while waiting:
        place = heapq.heappop(free)
        begins = {job: max([place, *(ended[other] for other in after[job])]) for job in waiting
                  if all(other in ended for other in after[job])}
        job = min(begins, key=begins.__getitem__)
        ended[job] = begins[job] + hours[job]
        heapq.heappush(free, ended[job])
        waiting.remove(job)
    return max(ended.values(), default=0.0)


def cost_table(work: dict[str, Work], speed: Speed) -> pd.DataFrame:
    """Return a row per kind of stage: stages, images, runs, steps, hours and GB, as a DataFrame."""
    rows: dict[str, dict[str, float]] = {}
    for stage, of_stage in work.items():
        kind = stage.partition("@")[0]
        row = rows.setdefault(kind, {"stages": 0, "images": 0, "runs": 0, "steps": 0, "hours": 0.0,
                                     "GB": 0.0})
        row["stages"] += 1
        row["images"] += of_stage.images
        row["runs"] += of_stage.runs
        row["steps"] += of_stage.n_steps
        row["hours"] += hours_of(of_stage, speed)
        row["GB"] = max(row["GB"], of_stage.memory(speed) / 1e9)
    return pd.DataFrame.from_dict(rows, orient="index")


def takes_long(params: Params, stages: Iterable[str]) -> bool:
    """Does any of these stages train, or may it encode images?"""
    return any(stage.partition("@")[0] in (*params.methods, "features", "shifted", "captions")
               for stage in stages)


def total(found: pd.DataFrame) -> str:
    """Return one line: how many stages take how long, how much memory, and what dominates."""
    hours, longest = found["hours"].sum(), found["hours"].idxmax()
    share = found["hours"].max() / hours
    return (f"{found['stages'].sum()} stages, about {duration(hours)} on this machine if it does "
            f"nothing else ({duration(hours / UNSURE)} to {duration(hours * UNSURE)}), at most "
            f"{found['GB'].max():.1f} GB of memory; most of it is {longest} ({share:.0%})")


def duration(hours: float) -> str:
    """Return a time in words, e.g. `30 minutes`."""
    if hours >= 2:
        return f"{hours:.0f} hours"
    minutes = max(1, round(60 * hours))
    return f"{minutes} minute{'s' * (minutes > 1)}"
