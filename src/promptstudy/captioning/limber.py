"""LiMBeR: one linear map makes an image a word of a frozen language model; and AAPE on top of it.

Merullo, Castricato, Eickhoff and Pavlick, *Linearly Mapping from Image to Text Space*, ICLR 2023,
whose code gives the loss and the constants. It maps every position of the image tower's last layer;
here one token stands for an image, as in the paper's variant with pooled features. AAPE's abstract
names captioning and visual question answering, and its tables name LiMBeR as the host; that its
prompt embedding becomes one more token is inferred.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip.text_features import DescriptionFeatures
from ..llm.frozen import IGNORED, LanguageModel
from ..methods.aape_core import AAPE
from ..methods.losses import Batch
from ..methods.stacked import Linear
from ..params.methods.aape import AAPEVariant

DROPOUT = 0.1  # share of a token's numbers that a training step leaves out
RIDGE = 100.0  # added to the diagonal of the inputs' matrix of about as many images
LONGEST = 24  # tokens of a caption


class Reader(nn.Module):
    """R linear maps, side by side, of features [R, B, d] to tokens [R, B, D] of a language model.

    token = rms (W x + b), with x = (f - m) / s: `images` [N, d], those of the training, give the
    mean feature m and the root mean square s of what is left. It is LiMBeR's map in other
    units, in which one learning rate suits every encoder. `rms` is that of the model's own tokens.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, generators: list[torch.Generator], images: Tensor, words: Tensor,
                 rms: float) -> None:
        super().__init__()
        self.register_buffer("mean", images.mean(dim=0))
        self.register_buffer("scale", (images - self.mean).square().mean().sqrt())
        self.map = Linear(generators, images.shape[1], words.shape[1], zero=True)
        self.generators, self.rms = generators, rms
        inputs = (images - self.mean) / self.scale
        ridge = RIDGE * torch.eye(inputs.shape[1])
        start = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ words)
        self.map.weight.data += start / (inputs @ start).square().mean().sqrt()

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.rms * self.map((features - self.mean) / self.scale)
        if not self.training:
            return tokens
        draws = _draws(self.generators, tokens.shape[1:]).to(tokens.device)
        return tokens * (draws >= DROPOUT) / (1 - DROPOUT)


class Captions:
    """The captions of C labels as tokens [C, K, T], of which `counts` [C] of each label are real.

    A caption ends with the model's end of text, and `IGNORED` fills what is left. Captions of more
    than `LONGEST` tokens are left out where a label has shorter ones, else cut.
    """

    def __init__(self, model: LanguageModel, captions: Sequence[Sequence[str]]) -> None:
        ids = [[[*model.ids(text), model.end] for text in texts] for texts in captions]
        ids = [[text for text in texts if len(text) <= LONGEST] or [min(texts, key=len)[:LONGEST]]
               for texts in ids]
        self.counts = torch.tensor([len(texts) for texts in ids])
        self.tokens = torch.full((len(ids), int(self.counts.max()), LONGEST), IGNORED)
        for label, texts in enumerate(ids):
            for number, text in enumerate(texts):
                self.tokens[label, number, :len(text)] = torch.tensor(text)
        self.model = model

    def words(self, labels: Tensor) -> Tensor:
        """Return what is said of images with these labels [N], as vectors [N, D] of mean square 1.

        They are the means of the captions' token embeddings, without what all images have in
        common.
        """
        real = self.tokens != IGNORED
        words = self.model.embeddings[self.tokens.clamp(min=0)].float() * real[..., None]
        means = (words.sum(dim=(1, 2)) / real.sum(dim=(1, 2))[:, None])[labels]
        apart = means - means.mean(dim=0)
        return F.normalize(apart, dim=-1) * apart.shape[1] ** 0.5

    def draw(self, labels: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return one caption [R, B, T] of each of the labels [R, B], drawn by each run."""
        lots = _draws(generators, labels.shape[1:])
        return self.tokens[labels, (lots * self.counts[labels]).long()]


class Limber(nn.Module):
    """R runs of LiMBeR: a frozen language model reads the token of an image, then its caption.

    images: the training images' normalised features [N, d], `labels` [N] theirs; captions: of each
    label.
    """

    def __init__(self, images: Tensor, labels: Tensor, captions: Captions,
                 seeds: Sequence[int]) -> None:
        super().__init__()
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.captions = captions
        self.reader = Reader(self.generators, images, captions.words(labels), captions.model.rms)

    def tokens(self, features: Tensor) -> Tensor:
        """Return the tokens [R, B, 1, D] of normalised image features [R, B, d]."""
        return self.reader(features)[:, :, None]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy [R] of a caption's tokens, one caption drawn per image."""
        return caption_loss(self, self.tokens(batch.features), batch.labels)


class LimberAAPE(AAPE):
    """R runs of LiMBeR with AAPE: the token of an image, that of its AAPE p, then its caption.

    The reference prompts `prompts` of a label are its captions; L_task is LiMBeR's loss. Generator,
    aggregator and both maps learn together (see `AAPE`); the aggregator is then left out.
    """

    def __init__(self, images: Tensor, labels: Tensor, captions: Captions, variant: AAPEVariant,
                 logit_scale: float, seeds: Sequence[int],
                 prompts: DescriptionFeatures | None = None) -> None:
        super().__init__(images.shape[1], variant, logit_scale, seeds, prompts)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.captions = captions
        start = images, captions.words(labels), captions.model.rms
        self.reader, self.prompt_reader = (Reader(self.generators, *start) for _ in range(2))
        if prompts is not None and hasattr(self.aggregator, "generators"):
            self.aggregator.generators = self.generators  # one stream of random numbers per run

    def tokens(self, features: Tensor, generated: Tensor | None = None) -> Tensor:
        """Return the tokens [R, B, 2, D] of image features and their AAPEs, [R, B, d] both.

        By default the AAPEs are those of the images themselves.
        """
        generated = self.generate(features) if generated is None else generated
        return torch.stack([self.reader(features), self.prompt_reader(generated)], dim=2)

    def task_loss(self, batch: Batch, generated: Tensor) -> Tensor:
        """Return the mean cross-entropy [R] of a caption's tokens, one caption drawn per image."""
        return caption_loss(self, self.tokens(batch.features, generated), batch.labels)


def caption_loss(method: Limber | LimberAAPE, tokens: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy [R] of the tokens of drawn captions of the labels [R, B].

    tokens: of the images, [R, B, t, D].
    """
    captions = method.captions.draw(labels, method.generators)
    losses = method.captions.model.losses(tokens.flatten(0, 1), captions.flatten(0, 1))
    real = (captions != IGNORED).sum(dim=(1, 2))
    return losses.view(*captions.shape).sum(dim=(1, 2)) / real


def _draws(generators, shape):
    """Random numbers in [0, 1) of that shape for each run [R, ...], each run's from its generator.
    """
    return torch.stack([torch.rand(shape, generator=generator) for generator in generators])
