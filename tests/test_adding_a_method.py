"""A method is added as the README says: two modules, a block of params.yaml, `make stages`."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from tiny_project import environment

from promptstudy.results import read_results

METHOD = '''"""A small example of a method: one vector is added to the feature of every class."""

import torch
from torch import nn
from torch.nn import functional as F

from .losses import cross_entropy


class Shift(nn.Module):
    """R runs side by side: class c has the feature norm(t_c + v), t_c that of its template."""

    reads_local = False

    def __init__(self, templates, logit_scale, vectors):
        super().__init__()
        self.templates, self.logit_scale = templates, logit_scale
        self.vectors = nn.Parameter(vectors)

    def logits(self, features):
        classes = F.normalize(self.templates + self.vectors, dim=-1)
        return self.logit_scale * features @ classes.mT

    def loss(self, batch):
        return cross_entropy(self.logits(batch.features), batch.labels)

    @torch.no_grad()
    def predict(self, features):
        return self.logits(features).argmax(dim=-1)


def texts(task):
    return task.template_texts


def build(task, setting, class_names, draws):
    templates = task.template_features[:len(class_names)]
    runs = len(task.params.seeds)
    return Shift(templates, task.logit_scale, templates.new_zeros(runs, 1, templates.shape[-1]))


def restore(task, setting, learned, subset="all", onto=None):
    onto = onto or task
    templates = task.encoder.encode_templates(onto.names_of(subset), [onto.template])
    return Shift(templates, task.logit_scale, learned["vectors"])
'''
BLOCK = '''"""What can be set about the method that adds a vector."""

from ..blocks import Block
from ..method import MethodParams


class ShiftVariant(Block):
    """It has no variants."""

    @property
    def label(self):
        return "vector"


class ShiftParams(MethodParams):
    """The method that adds a vector."""

    title, arxiv, colour, marker = "Shift", "ours", "#000000", "*"

    few_shot: ShiftVariant = ShiftVariant()
    base_to_new: ShiftVariant = ShiftVariant()
'''


def promptstudy(root, *arguments):
    return subprocess.run([sys.executable, "-m", "promptstudy", *arguments], cwd=root,
                          env=environment(root), capture_output=True, text=True)


@pytest.mark.slow
def test_a_new_method_gets_its_rows_and_nothing_else_is_trained(project, tmp_path):
    root = tmp_path / "project"
    shutil.copytree(project, root, symlinks=True)
    before = read_results(root / "reports" / "results.csv")
    (root / "src" / "promptstudy" / "methods" / "shift.py").write_text(METHOD)
    (root / "src" / "promptstudy" / "params" / "methods" / "shift.py").write_text(BLOCK)
    params = root / "params.yaml"
    settings = yaml.safe_load(params.read_text())
    params.write_text(params.read_text() + yaml.safe_dump(
        {"shift": {"schedule": settings["coop"]["schedule"]}}))

    refused = promptstudy(root, "repro")
    assert refused.returncode and "shift: has a block but no stage" in refused.stderr
    assert "make stages" in refused.stderr
    assert promptstudy(root, "stages").returncode == 0
    run = promptstudy(root, "repro", "evaluate")
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]

    ran = set(re.findall(r"^  ([\w@]+): \d+ s ", run.stdout, re.MULTILINE))
    assert ran == {"check", "shift@shapes", "shift@figures", "evaluate"}
    after = read_results(root / "reports" / "results.csv")
    new = after["method"] == "shift"
    assert after[~new].reset_index(drop=True).equals(before)
    assert {"few_shot", "base_to_new", "cross_dataset", "domain"} <= set(after[new]["protocol"])
