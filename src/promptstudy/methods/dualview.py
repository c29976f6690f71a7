"""Dual-view prompt tuning: learned and hand-crafted prompts as two views of a class's text.

Zhang, *Generalizable Prompt Tuning for Vision-Language Models*, 2024. Re-implemented from the
abstract, which names the mutual information of the two views and a class-wise augmentation from
the visual modality, and nothing else; all equations and constants are inferred. The nearest earlier
work is KgCoOp, which draws the views of each class together and keeps no two classes apart.
"""

import torch
from torch.nn import functional as F

from ..class_texts import view_features, view_texts
from ..clip.prompts import PromptLayout
from ..plans import training_draws
from .augmentation import Augmentation, Support, image_prototypes, stand_ins
from .coop import CoOp
from .losses import cross_entropy
from .mutual_information import iic, infonce, joint_distribution, jsd
from .stacked import ContextNetwork, generators_of

MEMORY = 0.9  # of the classes' joint distribution, where a batch is smaller than their number


class DualView(CoOp):
    """R runs of the dual-view method that train side by side.

    With s_c the class feature of the learned prompt (the soft view), h_c that of the hand-crafted
    one, f an image feature and tau the temperature, training minimises
        CE(f . s / tau) + lambda_mi L_mi + lambda_aug L_aug,
    where L_mi falls as the mutual information of the views rises (see `information_loss`) and
    L_aug is the cross-entropy of augmented features (see `augmentation_loss`). The prediction is by
    norm((1 - a) s_c + a h_c), with a = 0 by the soft view alone.

    Under `proto_ctx` images shape the prompts instead: class c has the context V + MLP(mu_c), with
    mu_c its prototype and MLP learned too.

    `hard` are the hand-crafted views of the classes as `DescriptionFeatures`, one text or several
    each; `support` the images of every run. Each is needed if its part of the loss weighs more than
    0, and neither may hold anything of other classes. `prototypes` [R, C, d] take the support's
    place for `proto_ctx`.
    """

    def __init__(self, encoder, class_names, variant, logit_scale, *, contexts=None, seeds=(),
                 hard=None, support=None, prototypes=None):
        super().__init__(encoder, class_names, variant.context, logit_scale, contexts=contexts,
                         seeds=seeds)
        self.variant, self.hard = variant, hard
        self.joint = self.augmentation = self.network = None
        if support is not None:
            support = Support(*(tensor.to(encoder.device) for tensor in support))
            self.augmentation = Augmentation(support, len(class_names), seeds)
        if variant.augmentation == "proto_ctx":
            own = variant.context.model_copy(update={"class_specific": True})
            self.layout = PromptLayout(encoder, class_names, own)
            self.network = ContextNetwork(generators_of(seeds), encoder.dim, encoder.width,
                                          zero=True).to(encoder.device)
            self.prototypes = (prototypes if prototypes is not None
                               else image_prototypes(support, len(class_names)))

    def class_features(self):
        """Return normalised text features [R, C, d] of the learned prompts, s_c."""
        if self.network is None:
            return super().class_features()
        contexts = self.contexts if self.contexts.ndim == 4 else self.contexts.unsqueeze(1)
        contexts = contexts + self.network(self.prototypes).unsqueeze(2)
        return F.normalize(self.encoder(*self.layout(contexts)), dim=-1)

    def information_loss(self, features, soft):
        """Return L_mi [R] of normalised image features [R, B, d] and the soft view [R, C, d].

        `infonce` and `jsd` compare classes, s_c with every text h_c'k at temperature tau_mi; `iic`
        compares what s_c and the mean texts h_c say of the images, at the model's temperature.
        """
        if self.variant.estimator == "iic":
            return iic(self._joint(features, soft))
        estimator = {"infonce": infonce, "jsd": jsd}[self.variant.estimator]
        scores = torch.einsum("rcd,ekd->rcek", soft, self.hard.features) / self.variant.tau_mi
        return estimator(scores, self.hard.weights)

    def _joint(self, features, soft):
        """The joint distribution of the two views' predictions, remembered over small batches."""
        joint = joint_distribution(self.logits(features, soft).softmax(dim=-1),
                                   self.logits(features, self.hard.mean).softmax(dim=-1))
        if features.shape[1] >= soft.shape[1]:
            return joint
        now = joint.detach()
        self.joint = now if self.joint is None else MEMORY * self.joint + (1 - MEMORY) * now
        return self.joint + joint - now  # the remembered value, the batch's gradient

    def augmentation_loss(self, batch, soft):
        """Return L_aug [R], the cross-entropy of features that the augmentation draws.

        Under `inter_mix` an image mixed of two classes belongs to a virtual class C + 1 of its own,
        whose text is mixed likewise.
        """
        match self.variant.augmentation:
            case "gauss":
                drawn = self.augmentation.gauss(batch.labels)
            case "intra_mix":
                drawn = self.augmentation.intra_mix(batch.features, batch.labels)
            case "inter_mix":
                drawn, virtual = self.augmentation.inter_mix(batch.features, batch.labels, soft)
        drawn = F.normalize(drawn, dim=-1)
        logits = self.logits(drawn, soft)
        if self.variant.augmentation != "inter_mix":
            return cross_entropy(logits, batch.labels)
        own = self.logit_scale * (drawn * virtual).sum(dim=-1, keepdim=True)
        return cross_entropy(torch.cat([logits, own], dim=-1),
                             torch.full_like(batch.labels, soft.shape[1]))

    def terms(self, batch):
        """Return the parts of the loss that weigh more than 0, `{name: [R]}` without weights."""
        soft = self.class_features()
        terms = {"ce": cross_entropy(self.logits(batch.features, soft), batch.labels)}
        if self.variant.lambda_mi:
            terms["mi"] = self.information_loss(batch.features, soft)
        if self.variant.lambda_aug and self.variant.augmentation not in ("none", "proto_ctx"):
            terms["aug"] = self.augmentation_loss(batch, soft)
        return terms

    def loss(self, batch):
        """Return CE + lambda_mi L_mi + lambda_aug L_aug [R] of each run on its batch."""
        weights = {"ce": 1, "mi": self.variant.lambda_mi, "aug": self.variant.lambda_aug}
        return sum(weights[name] * term for name, term in self.terms(batch).items())

    @torch.no_grad()
    def predict(self, features, ensemble_a=None):
        """Return the predicted classes [R, N] of normalised image features [N, d].

        The variant's weight a of the hand-crafted view can be replaced; above 0 it needs `hard`.
        """
        a = self.variant.ensemble_a if ensemble_a is None else ensemble_a
        classes = self.class_features()
        if a:
            classes = F.normalize((1 - a) * classes + a * self.hard.mean, dim=-1)
        return self.logits(features, classes).argmax(dim=-1)


def texts(task):
    """Return the texts of every hand-crafted view."""
    return view_texts(task)


def build(task, setting, class_names, draws):
    """Return the untrained dual-view method of a setting, one run a seed."""
    hard = view_features(task, setting.variant.hard_view).of(slice(len(class_names)))
    return DualView(task.encoder, class_names, setting.variant, task.logit_scale,
                    seeds=task.params.seeds, hard=hard, support=Support.of(task.pack.train, draws))


def restore(task, setting, learned, subset="all", onto=None):
    """Return what was learned, around the class names of a subset of `onto`, or of the task."""
    onto = onto or task
    hard = view_features(onto, setting.variant.hard_view).of(onto.classes_of(subset))
    model = DualView(task.encoder, onto.names_of(subset), setting.variant, task.logit_scale,
                     contexts=learned["contexts"], seeds=task.params.seeds, hard=hard,
                     prototypes=_prototypes(task, setting, subset, onto))
    model.load_state_dict(learned, strict=False)  # its network, where it has one
    return model


def predictions(params, setting, model, inputs):
    """Return the predictions [R, N] of the variant and of its ensembles, `{label: [R, N]}`.

    The ensembles of the two views, of the main variants alone, need no training of their own.
    """
    block = params.dualview
    found = {setting.variant.label: model.predict(*inputs)}
    if setting.variant in (block.few_shot, block.base_to_new):
        found |= {variant.label: model.predict(*inputs, variant.ensemble_a)
                  for variant in setting.variant.ensembles(block.ensembles)}
    return found


def _prototypes(task, setting, subset, onto):
    """Return the prototypes [R, C, d] that `proto_ctx` makes contexts of, else None.

    New classes have no training images, so stand-ins are made from their names; so they are for the
    classes of another dataset `onto`, but not for those of a shifted version of this one.
    """
    if setting.variant.augmentation != "proto_ctx":
        return None
    draws, names = training_draws(task.params, task.pack, setting)
    known = image_prototypes(Support.of(task.pack.train, draws), len(names))
    if onto.source is task:
        return known[:, onto.source_labels]
    if onto is task and subset != "new":
        return known
    view = setting.variant.hard_view
    written = view_features(task, view).mean[:len(names)]
    return stand_ins(view_features(onto, view).of(onto.classes_of(subset)).mean, known, written)
