"""Training on a GPU: nothing is left behind on the CPU. There is no GPU here, so one is played."""

import copy

import pytest
import torch
from conftest import changed
from pretend_gpu import GPU, Pretended, pretend_gpu
from tiny_project import PROJECT

from promptstudy.clip.backbone import Backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.methods import registry
from promptstudy.params import Schedule, load_params
from promptstudy.plans import plan, training_draws
from promptstudy.task import Task
from promptstudy.training import train

METHODS = ("coop", "kgcoop", "prograd", "dualpt", "dualview", "aape", "cocoop", "plot")


def test_the_played_gpu_notices_a_tensor_left_behind():
    here = torch.arange(6.0).view(2, 3)
    with pretend_gpu():
        there = here.to(GPU)
        assert isinstance(there, Pretended) and there.device == GPU
        assert (there @ torch.ones(3, 1, device=GPU)).tolist() == [[3], [12]]
        assert there[torch.tensor([1])].tolist() == [[3, 4, 5]]  # an index may be on the CPU
        with pytest.raises(RuntimeError, match="of the CPU and of the GPU"):
            there + here


def on_gpu(task):
    """The task with its backbone on the played GPU."""
    model = copy.deepcopy(task.backbone.model).to(GPU)
    backbone = Backbone(task.backbone.name, model, task.backbone.preprocess,
                        task.backbone.tokenizer, task.backbone.logit_scale)
    return Task(task.params, task.pack, backbone, TextEncoder(model, backbone.tokenizer))


def with_block(task, method):
    """The task in a suite that trains the method, the tiny one's or the paper suite's block."""
    if method in task.params.methods:
        return task
    block = getattr(load_params(PROJECT / "params-paper.yaml"), method)
    return Task(changed(task.params, **{method: block}), task.pack, task.backbone, task.encoder)


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_learns_on_a_gpu_what_it_learns_on_the_cpu(trained, method):
    trained = with_block(trained, method)
    schedule = Schedule(epochs={1: 1, 2: 1}, batch_size=8, lr=0.1, warmup_epochs=0)
    for setting in plan(trained.params, method, "shapes"):
        draws, names = training_draws(trained.params, trained.pack, setting)
        losses, learned = [], []
        for task in (trained, None):
            with pretend_gpu():
                task = task or on_gpu(trained)
                model = registry.load(method).build(task, setting, names, draws)
                assert {p.device for p in model.parameters()} == {task.encoder.device}
                losses.append(train(model, trained.pack.train, draws, schedule, setting.shots,
                                    trained.params.seeds))
                learned.append([p.cpu() for p in model.parameters() if p.requires_grad])
        torch.testing.assert_close(losses[1], losses[0])
        torch.testing.assert_close(learned[1], learned[0], msg=setting.key)
