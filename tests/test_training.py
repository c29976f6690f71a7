"""The training loop: schedule, order of images, independence of runs, and what is cached."""

import math
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import changed
from plain import TOKENIZER, difference, small_clip
from torch import nn
from torch.nn import functional as F

from promptstudy import training
from promptstudy.clip.text import TextEncoder
from promptstudy.features import extract
from promptstudy.methods.coop import CoOp
from promptstudy.params import ContextParams, Schedule, Setting, TransferParams, load_params
from promptstudy.params.methods.aape import AAPEParams
from promptstudy.params.methods.coop import CoOpParams
from promptstudy.params.methods.dualpt import DuAlPTParams
from promptstudy.params.methods.dualview import DualViewParams
from promptstudy.params.methods.kgcoop import KgCoOpParams
from promptstudy.plans import count_epochs, plan, schedule_of, transferred
from promptstudy.task import Task
from promptstudy.training import (
    epoch_batches,
    learned_by,
    learning_rate,
    side_by_side,
    train,
    train_plan,
)

NAMES = ["cat", "great white shark", "dog", "cat (felis)"]


def pictures(dim, n_views, count=60):
    generator = torch.Generator().manual_seed(0)
    return SimpleNamespace(features=3 * torch.randn(count, dim, generator=generator),
                           labels=torch.randint(len(NAMES), (count,), generator=generator),
                           views=3 * torch.randn(count, n_views, dim, generator=generator))


class Recorder(nn.Module):
    """A method that remembers its batches; its loss is a quadratic with a known gradient."""

    def __init__(self, runs, size=3):
        super().__init__()
        self.contexts = nn.Parameter(torch.linspace(-1, 2, runs * size).view(runs, size))
        self.target = torch.arange(float(size))
        self.batches = []

    def loss(self, batch):
        self.batches.append(batch)
        return ((self.contexts - self.target) ** 2).sum(dim=1)


@pytest.mark.parametrize("n_epochs", [1, 2, 50, 200])
def test_learning_rate_is_coops(n_epochs):
    schedule = Schedule(epochs={1: n_epochs})
    expected = [1e-5] + [0.001 * (1 + math.cos(math.pi * (e - 1) / n_epochs))
                         for e in range(1, n_epochs)]
    found = [learning_rate(schedule, epoch, n_epochs) for epoch in range(n_epochs)]
    assert found == pytest.approx(expected, rel=1e-12)


def test_learning_rate_of_fifty_epochs():
    schedule = Schedule(epochs={1: 50})
    assert learning_rate(schedule, 0, 50) == 1e-5
    assert learning_rate(schedule, 1, 50) == 0.002
    assert learning_rate(schedule, 49, 50) == pytest.approx(7.89e-6, abs=5e-9)


@pytest.mark.parametrize(("n_images", "sizes"), [
    (10, [10]), (32, [32]), (33, [32]), (63, [32]), (64, [32, 32]), (100, [32, 32, 32])])
def test_a_short_last_batch_is_dropped_unless_it_is_the_only_one(n_images, sizes):
    batches = epoch_batches(n_images, 32, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == sizes
    assert len(torch.cat(batches).unique()) == sum(sizes)


def test_base_to_new_and_transfer_may_have_their_own_learning_rate():
    def found(schedule):
        params = suite([1], 1, coop=CoOpParams(schedule=schedule))
        return {protocol: schedule_of(params, "coop", "shapes", Setting(protocol, None, 1))
                for protocol in ("few_shot", "base_to_new", "transfer", "retrieval")}

    schedules = found(Schedule(epochs={1: 5}, lr=0.1, base_to_new_lr=0.01))
    assert {protocol: schedule.lr for protocol, schedule in schedules.items()} == {
        "few_shot": 0.1, "base_to_new": 0.01, "transfer": 0.01, "retrieval": 0.1}
    same = Schedule(epochs={1: 5}, lr=0.1)
    assert found(same)["base_to_new"] == same


@pytest.mark.parametrize("n_images, max_steps, epochs", [
    (320, None, 50),  # ten batches an epoch
    (320, 500, 50), (320, 499, 49), (320, 100, 10), (320, 3, 2),  # warm-up is not all
    (10, 50, 50), (10, 49, 49)])  # one short batch an epoch
def test_epochs_are_cut_to_the_bound_on_steps(n_images, max_steps, epochs):
    schedule = Schedule(epochs={1: 50}, max_steps=max_steps)
    assert count_epochs(schedule, 1, n_images) == epochs


def test_the_images_of_an_epoch_are_shuffled_anew():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(epoch_batches(64, 32, generator)) for _ in range(2))
    assert not torch.equal(first, second) and not torch.equal(first, torch.arange(64))


def record(n_views, seeds=(4, 5), draws=None, epochs=12):
    images, method = pictures(8, n_views), Recorder(len(seeds))
    draws = torch.stack([torch.arange(20), torch.arange(40, 60)]) if draws is None else draws
    train(method, images, draws, Schedule(epochs={1: epochs}, batch_size=5), 1, list(seeds))
    return images, draws, method.batches


def test_every_epoch_shows_every_drawn_image_with_its_label_and_feature():
    images, draws, batches = record(n_views=0)
    assert len(batches) == 12 * 4
    for start in range(0, len(batches), 4):
        seen = torch.cat([batch.index for batch in batches[start:start + 4]], dim=1)
        assert torch.equal(seen.sort(dim=1).values, draws)
    for batch in batches:
        assert torch.equal(batch.labels, images.labels[batch.index])
        expected = F.normalize(images.features[batch.index], dim=-1)
        torch.testing.assert_close(batch.features, expected)


def test_augmented_views_take_the_images_place_each_about_equally_often():
    images, _, batches = record(n_views=3)
    views = F.normalize(images.views, dim=-1)
    counts = torch.zeros(2, 3)
    for batch in batches:
        matches = ((views[batch.index] - batch.features[:, :, None]).abs() < 1e-6).all(dim=-1)
        assert (matches.sum(dim=-1) == 1).all()
        counts += matches.sum(dim=1)
    assert (counts.sum(dim=1) == 240).all() and (counts > 50).all()


@pytest.mark.parametrize("n_views", [0, 3])
@pytest.mark.parametrize("variant", [{}, {"class_specific": True}, {"position": "front"}], ids=str)
def test_runs_trained_together_are_what_each_is_alone(variant, n_views):
    encoder = TextEncoder(small_clip(seed=7), TOKENIZER)
    images = pictures(encoder.dim, n_views)
    context, seeds = ContextParams(n_ctx=4, **variant), [1, 2, 3]
    schedule = Schedule(epochs={1: 4}, batch_size=8, lr=0.05)  # 5 batches an epoch: 20 steps
    draws = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(s))[:40]
                         for s in seeds])

    def contexts_after(seeds, draws):
        method = CoOp(encoder, NAMES, context, 20.0, seeds=seeds)
        start = method.contexts.detach().clone()
        losses = train(method, images, draws, schedule, 1, seeds)
        assert losses.shape == (20, len(seeds))
        return start, method.contexts.detach(), losses

    start, together, losses = contexts_after(seeds, draws)
    for run, seed in enumerate(seeds):
        _, alone, losses_alone = contexts_after([seed], draws[run:run + 1])
        assert difference(together[run], alone[0]) < 1e-5
        assert difference(losses[:, run], losses_alone[:, 0]) < 1e-5
        assert difference(together[run], start[run]) > 1e-2


def test_steps_are_sgd_with_momentum_and_weight_decay():
    schedule = Schedule(epochs={1: 3}, batch_size=20, lr=0.1, weight_decay=0.03)
    method = Recorder(1)
    value, velocity = method.contexts.detach().clone(), 0
    for rate in (1e-5, 0.1, 0.05 * (1 + math.cos(math.pi / 3))):
        gradient = 2 * (value - method.target) + 0.03 * value
        velocity = 0.9 * velocity + gradient
        value = value - rate * velocity
    train(method, pictures(8, 0), torch.arange(20)[None], schedule, 1, [0])
    torch.testing.assert_close(method.contexts.detach(), value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training_and_is_named(bad):
    class Breaking(Recorder):
        def loss(self, batch):
            loss = super().loss(batch)
            return torch.where(torch.tensor([False, len(self.batches) == 3]), bad, loss)

    method, draws = Breaking(2), torch.arange(20).expand(2, -1)
    with pytest.raises(FloatingPointError, match=f"seed 17 is {bad} at step 2"):
        train(method, pictures(8, 0), draws, Schedule(epochs={1: 2}, batch_size=5), 1, [3, 17])
    assert method.contexts.isfinite().all()


def suite(shots, base_to_new_shots, captioned=(), source=None, **methods):
    """Return as much of a suite's params as a plan needs; 16 shots are trained on the source."""
    return SimpleNamespace(shots=shots, base_to_new_shots=base_to_new_shots, captioned=captioned,
                           transfer=TransferParams(source=source or "none"), **methods)


def test_the_plan_lists_every_setting_once():
    few, short = ContextParams(), ContextParams(n_ctx=4)
    coop_params = CoOpParams(schedule=Schedule(epochs={1: 1}), few_shot=few, base_to_new=short,
                             ablations=[short, few], ablation_datasets=["a"],
                             ablation_shots=[1, 16])
    params = suite(coop=coop_params, shots=[1, 2], base_to_new_shots=16)
    main = ["few_shot/M16/1", "few_shot/M16/2", "base_to_new/M4/16"]
    assert [setting.key for setting in plan(params, "coop", "b")] == main
    assert [setting.key for setting in plan(params, "coop", "a")] == [
        *main, "few_shot/M4/1", "few_shot/M4/16", "few_shot/M16/16"]


def test_a_method_without_few_shot_variant_is_trained_base_to_new_alone():
    block = KgCoOpParams(schedule=Schedule(epochs={16: 1}), base_to_new={"weight": 2})
    params = suite(kgcoop=block, shots=[1, 2], base_to_new_shots=16)
    assert [s.key for s in plan(params, "kgcoop", "a")] == ["base_to_new/w2-M16/16"]


def test_ablations_of_dualview_change_the_protocol_s_variant_and_lie_on_its_curve():
    block = DualViewParams(
        schedule=Schedule(epochs={16: 1}), base_to_new={"tau_mi": 0.2}, ablation_datasets=["a"],
        ablation_shots=[16], ablation_protocol="base_to_new", ensembles=[0.5, 0.2],
        ablations={"lambda 3": {"lambda_mi": 3}, "jsd": {"estimator": "jsd", "lambda_mi": 2},
                 "aug only": {"lambda_mi": 0}})
    params = suite(dualview=block, shots=[], base_to_new_shots=16)
    assert [s.key for s in plan(params, "dualview", "a")] == [
        f"base_to_new/{label}/16" for label in ("M16 a=0.5", "lambda 3", "jsd", "aug only")]
    assert all(variant.tau_mi == 0.2 for variant in block.ablation_variants)
    assert block.lambda_curve == {"aug only": 0, "M16 a=0.5": 1, "lambda 3": 3}
    assert list(block.lambda_curve) == ["aug only", "M16 a=0.5", "lambda 3"]
    assert block.base_to_new_labels == ["M16 a=0.5", "M16 a=0.2", "M16 a=0.5 critic guides",
                                        "lambda 3", "jsd", "aug only"]


def test_retrieval_is_in_the_plan_of_a_method_that_has_it_and_is_all_of_captions():
    block = AAPEParams(schedule=Schedule(epochs={1: 1}), ablations={"k": {"k": 1}},
                       ablation_protocol="base_to_new", ablation_datasets=["a"],
                       ablation_shots=[16])
    params = suite(aape=block, shots=[1], base_to_new_shots=16, captioned={"pairs": 0})
    assert [setting.key for setting in plan(params, "aape", "a")] == [
        "few_shot/attention/1", "base_to_new/attention/16", "retrieval/attention/16",
        "base_to_new/k/16"]
    assert [setting.key for setting in plan(params, "aape", "pairs")] == ["retrieval/attention/1"]


@pytest.mark.parametrize("few_shot, ablations, expected", [
    ({"n_ctx": 16}, [], "transfer/M4/16"),
    ({"n_ctx": 4}, [], "few_shot/M4/16"),
    ({"n_ctx": 16}, [{"n_ctx": 4}], "few_shot/M4/16")])
def test_what_is_tested_elsewhere_is_trained_once(few_shot, ablations, expected):
    block = CoOpParams(schedule=Schedule(epochs={1: 1}), few_shot=few_shot, ablations=ablations,
                       base_to_new={"n_ctx": 4}, ablation_datasets=["a"], ablation_shots=[16])
    params = suite([1, 16], 16, source="a", coop=block)
    assert transferred(params, "coop") == Setting(expected.split("/")[0], block.base_to_new, 16)
    keys = [setting.key for setting in plan(params, "coop", "a")]
    assert keys.count(expected) == 1 and sum("/M4/16" in key for key in keys) == 2  # base to new
    assert "transfer" not in {setting.protocol for setting in plan(params, "coop", "b")}


def test_what_has_another_learning_rate_elsewhere_is_trained_again():
    block = CoOpParams(schedule=Schedule(epochs={1: 1}, base_to_new_lr=0.1), few_shot={"n_ctx": 4},
                       base_to_new={"n_ctx": 4})
    assert transferred(suite([16], 16, source="a", coop=block), "coop").protocol == "transfer"


def test_what_a_setting_learned_is_found_by_its_key():
    setting = Setting("few_shot", ContextParams(n_ctx=4), 1)
    tensors = {"few_shot/M4/1/contexts": 1, "few_shot/M4/16/contexts": 2, "few_shot/M4/1/losses": 3}
    assert learned_by(tensors, setting) == {"contexts": 1, "losses": 3}


def test_named_ablations_change_the_main_variant():
    block = DuAlPTParams(
        few_shot={"context": {"n_ctx": 4}, "alpha": 2}, schedule=Schedule(epochs={1: 1}),
        base_to_new={"n_prompts": 2}, ablation_datasets=["a"], ablation_shots=[1],
        ablations={"neither": {"alpha": 0}, "N1": {"n_prompts": 1}})
    params = suite(dualpt=block, shots=[1, 2], base_to_new_shots=16)
    main = ["few_shot/N4-M4/1", "few_shot/N4-M4/2", "base_to_new/N2-M16/16"]
    assert [setting.key for setting in plan(params, "dualpt", "b")] == main
    assert [setting.key for setting in plan(params, "dualpt", "a")] == [
        *main, "few_shot/neither/1", "few_shot/N1/1"]
    assert block.ablations["N1"] == block.few_shot.model_copy(
        update={"n_prompts": 1, "name": "N1"})


def test_epochs_on_a_dataset_replace_those_of_its_shots(own_suite, tiny_backbone):
    params = load_params(own_suite / "params.yaml")
    schedule = params.coop.schedule.model_copy(update={"epochs_on": {"shapes": 5, "figures": 1}})
    params = changed(params, coop=params.coop.model_copy(update={"schedule": schedule}))
    pack = extract(params, "shapes", tiny_backbone, own_suite / "cache")
    task = Task(params, pack, tiny_backbone,
                TextEncoder(tiny_backbone.model, tiny_backbone.tokenizer))
    learned = train_plan(task, "coop")
    # seven images are one batch, fourteen are one and a rest that is dropped; base are four classes
    assert {key: len(tensor) for key, tensor in learned.items() if key.endswith("losses")} == {
        "few_shot/M4/1/losses": 5, "few_shot/M4/2/losses": 5, "base_to_new/M4/2/losses": 5}


@pytest.mark.parametrize("cores, at_once", [(1, 1), (2, 2), (64, 4)])
def test_settings_side_by_side_share_the_cores(monkeypatch, cores, at_once):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    together = threading.Barrier(at_once)

    def square(number):
        together.wait(timeout=10)  # as many as this are begun before one has ended
        return number**2

    assert side_by_side(square, range(2 * at_once), torch.device("cpu")) == [
        number**2 for number in range(2 * at_once)]
    assert given == [cores // at_once] * at_once + [cores]


def test_a_gpu_takes_settings_in_turn():
    running = []

    def alone(number):
        running.append(number)
        time.sleep(0.01)
        assert running == [number]
        running.remove(number)

    side_by_side(alone, range(8), torch.device("cuda"))


def test_after_a_failure_no_setting_begins():
    begun = []

    def fail(number):
        begun.append(number)
        raise FloatingPointError(f"setting {number}")

    with pytest.raises(FloatingPointError, match="setting 0"):
        side_by_side(fail, range(100), torch.device("cuda"))
    assert len(begun) < 100


def test_settings_learn_side_by_side_what_each_learns_alone(own_suite, tiny_backbone, monkeypatch):
    params = load_params(own_suite / "params.yaml")
    pack = extract(params, "shapes", tiny_backbone, own_suite / "cache")
    task = Task(params, pack, tiny_backbone,
                TextEncoder(tiny_backbone.model, tiny_backbone.tokenizer))
    learned = []
    for at_once in (1, 4):
        monkeypatch.setattr(training, "AT_ONCE", at_once)
        monkeypatch.setattr(torch, "get_num_threads", lambda at_once=at_once: at_once)
        learned.append(train_plan(task, "coop"))
        params.artefact("coop", "shapes").unlink()  # which would be loaded
    alone, beside = learned
    assert alone.keys() == beside.keys()
    assert all(torch.equal(alone[key], beside[key]) for key in alone)
