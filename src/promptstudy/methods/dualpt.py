"""DuAl-PT: several prompts aligned with descriptions and with local image features.

Hu, Lin, Wang, Sun and Xu, *Context-Aware Prompt Tuning for Vision-Language Model with
Dual-Alignment*, 2023. Re-implemented from the abstract, which names the two alignments and nothing
else; the equations follow PLOT (Chen et al., ICLR 2023) for the local side, and for the text side
KgCoOp (`mean`), ProGrad (`kl`) or the transport that the local side has.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ..class_texts import descriptions, sentences
from ..clip.prompts import PromptLayout, initial_contexts
from .losses import cross_entropy
from .transport import sinkhorn

# plans are fitted to 1e-4 of a weight within these; at entropy 0.02 it takes more of them
LOCAL_ITERATIONS, TEXT_ITERATIONS = 20, 100
NEAREST = 0.2  # `topk` averages this share of the local features (PLOT's 10 of 49)
TAU_ATTENTION = 0.1  # temperature of `attn`
TAU_TEXT = 0.1  # temperature of `infonce`
CHUNK = 256  # images that are predicted at once


class DuAlPT(nn.Module):
    """R runs of DuAl-PT that train side by side; the N contexts of each run are all it learns.

    With T_cn the normalised text feature of class c in prompt n, f an image's global feature, F_l
    its L local features, E_ck the K descriptions of class c, and temperature tau, an image gets two
    scores for every class,
        global  z^g_c = f . T_c / tau              with T_c the normalised mean of T_cn over n,
        local   z^l_c = sum_ln P_ln F_l . T_cn / tau,
    where P is the transport plan of the L local features to the N prompts at cost 1 - F_l . T_cn.
    Training minimises CE(z^g) + alpha CE(z^l) + lambda L_text (see `text_loss`). The prediction is
    the largest z^g + beta z^l; neither it nor new classes need descriptions.

    `contexts` [R, N, M, D] or [R, N, C, M, D] are the starting point, fresh ones drawn from
    `seeds` when None. `train_local` [n, L, d] are the local features of all training images and
    `descriptions` those of the classes; each is needed if its part of the loss weighs more than 0.
    Raises `PromptError` for contexts that do not fit.
    """

    reads_local = True  # `predict` wants local image features too

    def __init__(self, encoder, class_names, variant, logit_scale, *, contexts=None, seeds=(),
                 train_local=None, descriptions=None):
        super().__init__()
        self.encoder, self.variant, self.logit_scale = encoder, variant, logit_scale
        self.descriptions = descriptions
        self.layout = PromptLayout(encoder, class_names, variant.context)
        if contexts is None:
            contexts = initial_contexts(encoder, self.layout, variant.context, seeds,
                                        variant.n_prompts)
        self.layout.check(contexts)
        self.contexts = nn.Parameter(contexts.to(encoder.device, copy=True))
        self.train_local = None
        if train_local is not None:
            self.train_local = F.normalize(train_local.to(encoder.device), dim=-1)

    def class_features(self):
        """Return normalised features of the classes [R, C, d] and of their prompts [R, C, N, d].

        The N prompts are N more runs to the text encoder. Their mean is taken before they are
        normalised, as PLOT does.
        """
        features = self.encoder(*self.layout(self.contexts.flatten(0, 1)))
        features = features.unflatten(0, self.contexts.shape[:2]).transpose(1, 2)
        return F.normalize(features.mean(dim=2), dim=-1), F.normalize(features, dim=-1)

    def global_logits(self, features, classes):
        """Return z^g [R, B, C] of normalised image features [R, B, d] or [B, d]."""
        return self.logit_scale * features @ classes.transpose(-1, -2)

    def local_logits(self, local, prompts):
        """Return z^l [R, B, C] of normalised local features [R, B, L, d]."""
        similarity = torch.einsum("rbld,rcnd->rbcln", local, prompts)
        return self.logit_scale * (self.local_plan(similarity) * similarity).sum(dim=(-2, -1))

    def local_plan(self, similarity):
        """Return what each pair of local feature and prompt weighs, for similarities [..., L, N].

        `ot`: the transport plan, without a gradient; `topk`: for each prompt the most similar local
        features; `attn`: a softmax over local features for each prompt. Weights add up to 1.
        """
        n_local, n_prompts = similarity.shape[-2:]
        match self.variant.local_align:
            case "ot":
                return sinkhorn(1 - similarity, self.variant.sinkhorn_eps, LOCAL_ITERATIONS)
            case "topk":
                count = max(1, round(NEAREST * n_local))
                chosen = similarity.topk(count, dim=-2).indices
                ones = torch.zeros_like(similarity).scatter(-2, chosen, 1.0)
                return ones / (count * n_prompts)
            case "attn":
                return (similarity / TAU_ATTENTION).softmax(dim=-2) / n_prompts

    def text_cost(self, prompts):
        """Return 1 - T_cn . E_ck [R, C, N, K] of the prompts [R, C, N, d]."""
        return 1 - torch.einsum("rcnd,ckd->rcnk", prompts, self.descriptions.features)

    def text_plan(self, cost):
        """Return the transport plan [R, C, N, K] of prompts to the descriptions of their class."""
        return sinkhorn(cost, self.variant.eps_text, TEXT_ITERATIONS,
                        column_weights=self.descriptions.weights)

    def text_loss(self, features, classes, prompts, logits):
        """Return L_text [R], the distance of the prompts to the descriptions E_ck of their class.

        `ot`: mean_c sum_nk P_nk (1 - T_cn . E_ck); `mean`: mean_c (1 - T_c . E_c), E_c the
        normalised mean description; `infonce`: the cross-entropy of class c among all classes
        under T_c . E_c' / tau_t; `kl`: KL(softmax(f . E / tau) || softmax(z^g)), the mean
        descriptions being the teacher's class features.
        """
        mean = self.descriptions.mean
        match self.variant.text_align:
            case "ot":
                cost = self.text_cost(prompts)
                return (self.text_plan(cost) * cost).sum(dim=(-2, -1)).mean(dim=-1)
            case "mean":
                return 1 - (classes * mean).sum(dim=-1).mean(dim=-1)
            case "infonce":
                own = torch.arange(len(mean), device=mean.device).expand(len(classes), -1)
                return cross_entropy(classes @ mean.T / TAU_TEXT, own)
            case "kl":
                teacher = self.global_logits(features, mean).log_softmax(dim=-1)
                divergence = F.kl_div(logits.log_softmax(dim=-1), teacher, reduction="none",
                                      log_target=True)
                return divergence.sum(dim=-1).mean(dim=-1)

    def loss(self, batch):
        """Return CE(z^g) + alpha CE(z^l) + lambda L_text [R] of each run on its batch."""
        classes, prompts = self.class_features()
        logits = self.global_logits(batch.features, classes)
        loss = cross_entropy(logits, batch.labels)
        if self.variant.alpha:
            local = self.train_local[batch.index]
            loss = loss + self.variant.alpha * cross_entropy(self.local_logits(local, prompts),
                                                             batch.labels)
        if self.variant.lambda_text:
            loss = loss + self.variant.lambda_text * self.text_loss(batch.features, classes,
                                                                    prompts, logits)
        return loss

    @torch.no_grad()
    def predict(self, features, local):
        """Return the predicted classes [R, N] of normalised features [N, d] and [N, L, d].

        The score is z^g + beta z^l, plus gamma f . E / tau where the variant's `llm_ensemble` is
        gamma: that alone reads descriptions.
        """
        classes, prompts = self.class_features()
        parts = zip(features.split(CHUNK), local.split(CHUNK), strict=True)
        return torch.cat([self._scores(*part, classes, prompts).argmax(dim=-1) for part in parts],
                         dim=1)

    def _scores(self, features, local, classes, prompts):
        scores = self.global_logits(features, classes)
        if self.variant.beta_infer:
            local = local.expand(len(classes), *local.shape)
            scores = scores + self.variant.beta_infer * self.local_logits(local, prompts)
        if self.variant.llm_ensemble:
            teacher = self.global_logits(features, self.descriptions.mean)
            scores = scores + self.variant.llm_ensemble * teacher
        return scores


def texts(task):
    """Return the descriptions that the prompts are aligned with."""
    return sentences(task)


def build(task, setting, class_names, draws):
    """Return the untrained DuAl-PT of a setting, one run a seed."""
    of_classes = descriptions(task, setting.variant.descriptions).of(slice(len(class_names)))
    return DuAlPT(task.encoder, class_names, setting.variant, task.logit_scale,
                  seeds=task.params.seeds, train_local=task.pack.train.local,
                  descriptions=of_classes)


def restore(task, setting, learned, subset="all", onto=None):
    """Return the learned prompts around the class names of a subset of `onto`, or of the task.

    It holds descriptions only if its prediction reads them (`llm_ensemble`).
    """
    onto, of_classes = onto or task, None
    if setting.variant.llm_ensemble:
        of_classes = descriptions(onto).of(onto.classes_of(subset))
    return DuAlPT(task.encoder, onto.names_of(subset), setting.variant, task.logit_scale,
                  contexts=learned["contexts"], descriptions=of_classes)
