"""The settings of the dual-view method."""

from typing import Annotated, Literal

from pydantic import Field

from ..blocks import Block, Share, Weight
from ..method import ContextParams, NamedAblations


class DualViewVariant(Block):
    """One dual-view method: how views are aligned, images mixed and predictions made."""

    name: str | None = Field(None, description="in the results; null: derived from the values")
    context: ContextParams = ContextParams()
    hard_view: Literal["template", "ensemble", "descriptions"] = Field(
        "template", description="texts of the hand-crafted view: the dataset's template, the "
                                "prompt ensemble, or a language model's descriptions")
    critic: Literal["bilinear", "cosine"] = Field(
        "bilinear", description="that estimates mutual information: learned, or the cosine")
    estimator: Literal["infonce", "jsd", "mine"] = Field(
        "infonce", description="the bound that the critic maximises")
    lambda_mi: Weight = Field(1.0, description="weight of the views' information; 0: none")
    tau_mi: Annotated[float, Field(gt=0)] = Field(0.1, description="temperature of the views")
    lambda_image: Weight = Field(1.0, description="weight of the information between images and "
                                                  "views; 0: none")
    mixup: Literal["none", "within", "across", "both"] = Field(
        "across", description="of an image with one of its own class, of another one, or either")
    mixup_alpha: Annotated[float, Field(gt=0)] = Field(
        1.0, description="the image's share is drawn from Beta(alpha, alpha); 1: any is as likely, "
                         "small: mostly one of the two images")
    ensemble_a: Share = Field(0.5, description="weight of the hand-crafted view in the prediction")
    critic_predicts: bool = Field(True, description="by the images' critic, or by cosines")

    @property
    def label(self) -> str:
        """Name of the variant in the results, e.g. `M4-words`, or `M4-words a=0.2`."""
        share = f" a={self.ensemble_a:g}" if self.ensemble_a else ""
        return self.name or self.context.label + share

    def ensembles(self, weights: list[float]) -> list["DualViewVariant"]:
        """Return the variants that are trained the same but predict with another `ensemble_a`."""
        return [self.model_copy(update={"ensemble_a": a, "name": f"{self.context.label} a={a:g}"})
                for a in weights if a != self.ensemble_a]


class DualViewParams(NamedAblations):
    """The dual-view method: the main variants, their schedule, and those of its ablations."""

    title, arxiv, colour, marker = "Dual-view", "2410.03189", "#fa430e", "D"
    inferred = True

    few_shot: DualViewVariant = DualViewVariant()
    base_to_new: DualViewVariant = DualViewVariant()
    ensembles: list[Share] = Field(
        [0, 1], description="further ensemble_a with which the main variants are scored")
    ablations: dict[str, DualViewVariant] = {}

    def also_scored(self, main: DualViewVariant) -> list[DualViewVariant]:
        """Return the variants that are trained as a main one is, but predict otherwise."""
        cosine = main.model_copy(update={"critic_predicts": False,
                                         "name": f"{main.label} critic guides"})
        return main.ensembles(self.ensembles) + [cosine] * main.critic_predicts

    @property
    def base_to_new_labels(self) -> list[str]:
        """Names of all variants with base-to-new results: the main one, those trained with it, and
        the ablations.
        """
        main, *ablations = super().base_to_new_labels
        return [main, *(v.label for v in self.also_scored(self.base_to_new)), *ablations]

    @property
    def lambda_curve(self) -> dict[str, float]:
        """The base-to-new variants that differ only in lambda_mi: {label: lambda_mi}, rising."""
        main = self.base_to_new
        curve = {v.label: v.lambda_mi for v in self._base_to_new_variants
                 if v.model_copy(update={"lambda_mi": main.lambda_mi, "name": main.name}) == main}
        return dict(sorted(curve.items(), key=lambda item: item[1]))
