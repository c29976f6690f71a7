"""`params.yaml`, typed and validated: one object that every stage and notebook reads.

A folder with a `params.yaml` is a *suite*: every path in it, and every artefact made from it, is
relative to that folder. Suites differ in values alone.
"""

import difflib
import json
import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from .errors import ParamsError
from .names import key_faults, number_as_key, template_fault
from .textfiles import read_text

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Entropy = Annotated[float, Field(gt=0)]

ORIGINAL = "original"  # how results call the images of the source that its shifts are made of


class Block(BaseModel):
    """A block of settings: unknown keys are refused, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneParams(Block):
    """Which frozen CLIP to use (see `clip.backbone.load_backbone`)."""

    name: str
    pretrained: str | None = None


Layout = Literal[
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101", "imagenetv2", "imagenet_sketch",
    "imagenet_a", "imagenet_r"]


class ImagesParams(Block):
    """Where a dataset's images are, and which is which."""

    layout: Layout | None = Field(
        None, description="one of CoOp's datasets, in its folder below data_root (see "
                          "`datasets.layouts`); instead of images and split")
    images: str | None = Field(None, description="folder of images, relative to data_root")
    split: str | None = Field(
        None, description="CoOp split JSON, relative to data_root (to params.yaml with a leading "
                          "./); null: one folder a class, split 50/20/30 by a fixed seed (not so "
                          "what is for tests alone)")


class DatasetParams(ImagesParams):
    """A dataset, and how its class names become a prompt."""

    template: str = Field("a photo of a {}.", description="hand-crafted prompt; {} is the class")
    human: str | None = Field(
        None, description="sentences that people wrote about its classes, relative to data_root: "
                          "{class: [sentence, ...]} in JSON, or Grocery Store's classes.csv")


class TargetParams(ImagesParams):
    """A shifted version of the source, for tests alone: images of its classes, or of some of them.

    Either has a dataset's keys, or is made from the source's own test images. The prompt is the
    source's.
    """

    shift: Literal["sketch", "rendition", "blur_noise", "small"] | None = Field(
        None, description="what is made from the source's test images (see `datasets.shifts`)")


class TransferParams(Block):
    """Prompts that are trained once, on all classes of one dataset, and tested elsewhere.

    They are each method's base-to-new variant. Protocol `cross_dataset` tests them on every other
    dataset, `domain` on shifted versions of the source.
    """

    source: str = Field(description="the dataset that they are trained on")
    shots: Positive = 16
    domain: dict[str, TargetParams] = Field({}, description="shifted versions of the source")
    per_class: Positive | None = Field(
        None, description="how many test images of each class are shifted; null: all")


class CaptionedParams(Block):
    """A dataset of images with sentences of their own instead of classes, for retrieval."""

    images: str = Field(description="folder of images, relative to data_root")
    captions: str = Field(
        description='relative to data_root: {"image": path, "captions": [sentence, ...]} a line, '
                    "or Karpathy's JSON of COCO or Flickr30k (see `datasets.captions`)")


class FeatureParams(Block):
    """What is computed once from every image."""

    batch_size: Positive = 64
    views: Annotated[int, Field(ge=0)] = Field(
        4, description="augmented views of a training image; 0: train on the test transform")
    local_grid: Positive = Field(3, description="local features are pooled to a grid of n x n")
    vit_local: Literal["last", "vv"] = Field(
        "last", description="a ViT's local features: its last block's, or with value-value "
                            "attention there")


class Schedule(Block):
    """SGD with CoOp's learning-rate schedule, stepped per epoch, as in CoOp's code."""

    epochs: dict[Positive, Positive] = Field(description="number of epochs for each shot count")
    epochs_on: dict[str, Positive] = Field(
        {}, description="dataset: its number of epochs instead, for every shot count")
    max_steps: Positive | None = Field(
        None, description="where the epochs are more steps than this, there are fewer epochs, but "
                          "one more than warm up; null: as many as `epochs` says")
    batch_size: Positive = 32
    lr: Annotated[float, Field(gt=0)] = 0.002
    base_to_new_lr: Annotated[float, Field(gt=0)] | None = Field(
        None, description="learning rate in base-to-new, where a lower one may keep new classes; "
                          "null: lr")
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    warmup_lr: Annotated[float, Field(gt=0)] = 1e-5


class ContextParams(Block):
    """The learnable part of a prompt."""

    n_ctx: Positive = Field(16, description="number of context vectors M")
    class_specific: bool = Field(False, description="one context per class (CSC) or one for all")
    position: Literal["end", "middle", "front"] = Field("end", description="of the class name")
    init: str | None = Field(None, description="M initial words; null: N(0, 0.02^2)")

    @property
    def label(self):
        """Short name of the variant, e.g. `M16`, `M16-csc`, `M4-middle-words`."""
        parts = [f"M{self.n_ctx}", "csc" if self.class_specific else "",
                 self.position if self.position != "end" else "", "words" if self.init else ""]
        return "-".join(part for part in parts if part)


class Setting(NamedTuple):
    """One row of a method's plan; its runs, one a seed, are trained together."""

    protocol: str  # few_shot, base_to_new, transfer or retrieval
    variant: Block  # has a `label`
    shots: int

    @property
    def key(self):
        """Name of the setting in files, e.g. `few_shot/M16/4`."""
        return f"{self.protocol}/{self.variant.label}/{self.shots}"


class MethodParams(Block):
    """What every method's block has. A subclass adds which variants it trains: `few_shot` (None:
    not trained few-shot), `base_to_new` and, to be compared with them, `studies`.
    """

    schedule: Schedule
    studies: list[Block] = []
    study_protocol: Literal["few_shot", "base_to_new"] = "few_shot"
    study_datasets: list[str] = Field([], description="on which datasets the studies are trained")
    study_shots: list[Positive] = Field([], description="with how many shots")

    @property
    def study_variants(self):
        """The variants of the studies, as a list."""
        return list(self.studies)


class NamedStudies(MethodParams):
    """A method whose studies have names: each is what it changes in `study_protocol`'s variant."""

    @model_validator(mode="before")
    @classmethod
    def _complete_studies(cls, values):
        """Fill every study up with its name and the values that it does not change."""
        if not isinstance(values, dict) or not isinstance(values.get("studies"), dict):
            return values
        protocol = values.get("study_protocol", cls.model_fields["study_protocol"].default)
        main = values.get(protocol) or {}
        studies = {name: {**main, **change, "name": name} if isinstance(change, dict) else change
                   for name, change in values["studies"].items()}
        return {**values, "studies": studies}

    @property
    def study_variants(self):
        """The variants of the studies, as a list."""
        return list(self.studies.values())

    @property
    def base_to_new_labels(self):
        """Names of all variants with results base to new: the main one, then the studies."""
        return [variant.label for variant in self._base_to_new_variants]

    @property
    def _base_to_new_variants(self):
        studies = self.study_variants if self.study_protocol == "base_to_new" else []
        return [self.base_to_new, *studies]


class CoOpParams(MethodParams):
    """CoOp: its contexts, their schedule, and the contexts that it is compared with."""

    few_shot: ContextParams = ContextParams()
    base_to_new: ContextParams = ContextParams(n_ctx=4, init="a photo of a")
    studies: list[ContextParams] = []


class KgCoOpVariant(Block):
    """One KgCoOp: its context, and how strongly it is held to the hand-crafted prompt."""

    context: ContextParams = ContextParams()
    weight: Weight = Field(8.0, description="weight of the distance from the hand-crafted prompt")

    @property
    def label(self):
        """Name of the variant in the results, e.g. `w8-M4-words`."""
        return f"w{self.weight:g}-{self.context.label}"


class KgCoOpParams(MethodParams):
    """KgCoOp: its variants and their schedule."""

    few_shot: KgCoOpVariant | None = None
    base_to_new: KgCoOpVariant = KgCoOpVariant()


class ProGradVariant(Block):
    """One ProGrad: its context, and how much of a conflicting gradient it gives up."""

    context: ContextParams = ContextParams()
    weight: Weight = Field(1.0, description="lambda, 1: all of what goes against zero-shot CLIP")

    @property
    def label(self):
        """Name of the variant in the results, e.g. `w1-M4-words`."""
        return f"w{self.weight:g}-{self.context.label}"


class ProGradParams(MethodParams):
    """ProGrad: its variants and their schedule."""

    few_shot: ProGradVariant | None = None
    base_to_new: ProGradVariant = ProGradVariant()


class DuAlPTVariant(Block):
    """One DuAl-PT: how many prompts, what they are aligned with and how strongly."""

    name: str | None = Field(None, description="in the results; null: made from the values")
    context: ContextParams = ContextParams()
    n_prompts: Positive = Field(4, description="number of prompts N")
    text_align: Literal["ot", "mean", "infonce", "kl"] = Field(
        "ot", description="how prompts are aligned with class descriptions")
    lambda_text: Weight = Field(1.0, description="weight of that loss; 0: no text alignment")
    eps_text: Entropy = Field(0.02, description="entropy of its plan; .inf: the uniform plan")
    local_align: Literal["ot", "topk", "attn"] = Field(
        "ot", description="how prompts are aligned with local image features")
    alpha: Weight = Field(1.0, description="weight of the local scores' loss")
    beta_infer: Weight = Field(1.0, description="weight of local scores in the prediction")
    sinkhorn_eps: Entropy = Field(0.1, description="entropy of their plan; .inf: uniform")
    llm_ensemble: Weight = Field(0.0, description="weight of the mean description's scores in the "
                                                  "prediction, which then needs descriptions")
    descriptions: Literal["llm", "template", "shuffled"] = Field(
        "llm", description="a language model's, the template as the only one, or the model's but "
                           "of another class")

    @property
    def label(self):
        """Name of the variant in the results, e.g. `N4-M16`."""
        return self.name or f"N{self.n_prompts}-{self.context.label}"


class DuAlPTParams(NamedStudies):
    """DuAl-PT: the main variants, their schedule, and the variants of its studies."""

    few_shot: DuAlPTVariant = DuAlPTVariant()
    base_to_new: DuAlPTVariant = DuAlPTVariant()
    studies: dict[str, DuAlPTVariant] = {}


class DualViewVariant(Block):
    """One dual-view method: how its views are tied and its images augmented, and what predicts."""

    name: str | None = Field(None, description="in the results; null: made from the values")
    context: ContextParams = ContextParams()
    hard_view: Literal["template", "ensemble", "descriptions"] = Field(
        "template", description="texts of the hand-crafted view: the dataset's template, the "
                                "prompt ensemble's, or what a language model wrote")
    estimator: Literal["infonce", "jsd", "iic"] = Field(
        "infonce", description="of the mutual information of the views")
    tau_mi: Annotated[float, Field(gt=0)] = Field(
        0.1, description="temperature of infonce and jsd")
    lambda_mi: Weight = Field(1.0, description="weight of mutual information; 0: none")
    augmentation: Literal["none", "gauss", "intra_mix", "inter_mix", "proto_ctx"] = Field(
        "gauss", description="of image features, class by class; proto_ctx: of contexts, by them")
    lambda_aug: Weight = Field(1.0, description="weight of the loss on augmented features (which "
                                                "proto_ctx does not have)")
    eta: Weight = Field(1.0, description="spread of gauss, in standard deviations of the class")
    rho: Share = Field(0.5, description="share of a class's own variance in it, beside the mean "
                                        "of all classes; 0 for classes with one image")
    ensemble_a: Share = Field(0.0, description="weight of the hand-crafted view in the prediction")

    @property
    def label(self):
        """Name of the variant in the results, e.g. `M4-words`, or `M4-words a=0.2`."""
        share = f" a={self.ensemble_a:g}" if self.ensemble_a else ""
        return self.name or self.context.label + share

    def ensembles(self, weights):
        """Return the variants that predict with another `ensemble_a` and are trained the same."""
        return [self.model_copy(update={"ensemble_a": a, "name": f"{self.context.label} a={a:g}"})
                for a in weights if a != self.ensemble_a]


class DualViewParams(NamedStudies):
    """The dual-view method: the main variants, their schedule, and the variants of its studies."""

    few_shot: DualViewVariant = DualViewVariant()
    base_to_new: DualViewVariant = DualViewVariant()
    ensembles: list[Share] = Field(
        [0, 0.5], description="with these ensemble_a the main variants are scored too")
    studies: dict[str, DualViewVariant] = {}

    @property
    def base_to_new_labels(self):
        """Names of all variants with results base to new: the main one, its ensembles, studies."""
        main, *studies = super().base_to_new_labels
        ensembles = (variant.label for variant in self.base_to_new.ensembles(self.ensembles))
        return [main, *ensembles, *studies]

    @property
    def lambda_curve(self):
        """Which base-to-new variants differ in lambda_mi alone: {label: lambda_mi}, rising."""
        main = self.base_to_new
        curve = {v.label: v.lambda_mi for v in self._base_to_new_variants
                 if v.model_copy(update={"lambda_mi": main.lambda_mi, "name": main.name}) == main}
        return dict(sorted(curve.items(), key=lambda item: item[1]))


class AAPEVariant(Block):
    """One AAPE: which reference prompts, how they are summarised, what learns from the summary."""

    name: str | None = Field(None, description="in the results; null: made from the values")
    reference: Literal["llm", "human"] = Field(
        "llm", description="reference prompts: a language model's, or the dataset's `human` ones")
    k: Positive | None = Field(None, description="number of them for each class; null: all")
    aggregator: Literal["attention", "mean", "random", "mlp"] = Field(
        "attention", description="what makes a summary of them")
    agg_values: Literal["learned", "identity"] = Field(
        "learned", description="values of the attention; identity: the prompts themselves")
    heads: Positive = Field(8, description="of the attention")
    reward: Literal["cos", "nce", "clipscore"] = Field(
        "cos", description="what the aggregator learns from")
    mu: Weight = Field(1.0, description="weight of the reward's loss")
    gen_hidden: Positive | None = Field(
        None, description="hidden width of the generator; null: that of the features")
    gen_residual: bool = Field(False, description="does the generator start from the image?")
    proj: Literal["mlp_residual", "linear"] = Field(
        "mlp_residual", description="how AAPE and class template become the class's weight")
    distill: Literal["l2", "cos", "l1"] = Field(
        "l2", description="distance from AAPE to the summary")
    distill_stopgrad: bool = Field(True, description="is the summary held fixed in it?")
    lambda_distill: Weight = Field(1.0, description="its weight; 0: no distillation")

    @property
    def label(self):
        """Name of the variant in the results, e.g. `attention`, `attention-k2`."""
        return self.name or self.aggregator + (f"-k{self.k}" if self.k else "")


class AAPEParams(NamedStudies):
    """AAPE: the main variants, their schedule, and the variants of its studies."""

    few_shot: AAPEVariant = AAPEVariant()
    base_to_new: AAPEVariant = AAPEVariant()
    retrieval: AAPEVariant = AAPEVariant()
    studies: dict[str, AAPEVariant] = {}


class PriceParams(Block):
    """What the endpoint charges, in US dollars per million tokens; 0: nothing."""

    prompt: Annotated[float, Field(ge=0)] = 0
    reply: Annotated[float, Field(ge=0)] = 0


class LLMParams(Block):
    """Class descriptions: which model is asked what, and which corpora are used instead.

    The endpoint is named by the environment: OPENAI_BASE_URL and OPENAI_API_KEY.
    """

    model: str = Field(description="as the endpoint calls it")
    queries: Path = Field(Path("llm/queries.yaml"), description="relative to params.yaml")
    n_replies: Positive = Field(1, description="replies to each query about a class")
    temperature: Annotated[float, Field(ge=0)] | None = Field(
        0.7, description="null, as for the next two and the seed: not sent")
    max_tokens: Positive | None = Field(80, description="of a reply")
    seed: int | None = Field(0, description="reply i of a query gets seed + i")
    extra: dict[str, JsonValue] = Field({}, description="more of the request, sent as it is")
    concurrency: Positive = Field(4, description="requests under way at once")
    timeout: Annotated[float, Field(gt=0)] = Field(
        60, description="seconds for one reply, to its last byte")
    patience: Annotated[float, Field(gt=0)] = Field(
        600, description="seconds for one request with all its retries")
    price: PriceParams = PriceParams()
    corpora: dict[str, Path] = Field(
        {}, description="dataset: a JSON file {class: [sentence, ...]} to use instead of replies; "
                        "relative to params.yaml")
    compared: dict[str, Path] = Field(
        {}, description="dataset: such a file to compare with in 01_describe, if it is there")


class Params(Block):
    """Everything that a run of the pipeline depends on."""

    suite: str
    data_root: Path | None = Field(
        None, description="folder of images in CoOp's layout; null: use the feature packs")
    backbone: BackboneParams
    shots: list[Positive]
    base_to_new_shots: Positive = 16
    seeds: list[Annotated[int, Field(ge=0)]]
    datasets: Annotated[dict[str, DatasetParams], Field(min_length=1)]
    transfer: TransferParams
    captioned: dict[str, CaptionedParams] = {}
    features: FeatureParams = FeatureParams()
    llm: LLMParams
    coop: CoOpParams
    kgcoop: KgCoOpParams
    prograd: ProGradParams
    dualpt: DuAlPTParams
    dualview: DualViewParams
    aape: AAPEParams

    _root: Path = Path(".")

    @property
    def methods(self):
        """The blocks of the methods that learn prompts, {name: block}."""
        return {name: block for name, block in self if isinstance(block, MethodParams)}

    @property
    def every_dataset(self):
        """The blocks of all datasets, also of those for tests alone, {name: block}."""
        return {**self.datasets, **self.transfer.domain}

    def key_of(self, name):
        """Return the key of a dataset in params.yaml, e.g. `datasets.dtd`."""
        block = ("captioned" if name in self.captioned else
                 "transfer.domain" if name in self.transfer.domain else "datasets")
        return f"{block}.{name}"

    def template_of(self, name):
        """Return the hand-crafted prompt of a dataset; of a shifted version, the source's."""
        home = self.transfer.source if name in self.transfer.domain else name
        return self.datasets[home].template

    @property
    def root(self):
        """The suite's folder: artefacts are written below it."""
        return self._root

    def artefact(self, stage, dataset):
        """Return the path of what a stage makes for a dataset."""
        return self.root / "artefacts" / stage / f"{dataset}.safetensors"

    @property
    def about_backbone(self):
        """What a backbone's folder says of the model, for every page with its numbers; or ""."""
        record = self.root / self.backbone.name.removeprefix("local-dir:") / "build.json"
        return json.loads(record.read_text()).get("about", "") if record.is_file() else ""

    def dataset(self, name=None):
        """Return the name of a dataset of this suite: `name` itself, or the first one for None.

        Raises `ParamsError` with the nearest valid name.
        """
        return next(iter(self.datasets)) if name is None else _known(name, self.datasets)

    def any_dataset(self, name):
        """Return `name`, which may be a dataset for tests alone; raises as `dataset`."""
        return _known(name, self.every_dataset)


def load_params(path=None):
    """Return the validated `Params` of `path`.

    None stands for the file that $PROMPTSTUDY_PARAMS names, else `params.yaml` in the working
    folder or the nearest one above it. Raises `ParamsError` listing every fault: the key, what is
    wrong with it, and the nearest valid key.
    """
    path = Path(path or os.environ.get("PROMPTSTUDY_PARAMS") or _find_params())
    params = read_block(path, Params)
    faults = _cross_check(params)
    if faults:
        raise ParamsError(f"{path} cannot be used:\n" + "\n".join(f"  {f}" for f in faults))
    params._root = path.resolve().parent
    return params


def read_block(path, model):
    """Return the YAML file at `path` as a `model`, a kind of `Block`.

    Raises `ParamsError` listing every fault: the key, what is wrong, and the nearest valid key.
    """
    try:
        # DVC reads nothing but UTF-8
        values = yaml.safe_load(read_text(path, ParamsError, utf8_only=True))
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    except RecursionError:
        raise ParamsError(f"{path} is not valid YAML: its brackets are nested too deeply") from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = "\n".join(f"  {_describe(fault, model)}" for fault in error.errors())
        raise ParamsError(f"{path} cannot be used:\n{faults}") from None


def _find_params():
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder / "params.yaml"
    raise ParamsError(f"no params.yaml in {here} or above it; run this inside the project")


def _describe(fault, model):
    """Say in one line which key is wrong, why, and what would be right."""
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        valid = _keys_at(model, fault["loc"][:-1])
        return f"{key}: unknown key" + _nearest(fault["loc"][-1], valid)
    if fault["type"] == "string_type" and fault["loc"][-1] == "[key]":
        return number_as_key(".".join(map(str, fault["loc"][:-2])), fault["input"])
    value = "" if fault["type"] == "missing" else f" (found {fault['input']!r})"
    return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}{value}"


def _keys_at(model, location):
    """The keys that the block at `location` of a `model` may have."""
    for part in location:
        annotation = model.model_fields[part].annotation if isinstance(model, type) else model[1]
        arguments = [a for a in getattr(annotation, "__args__", ()) if a is not type(None)]
        if get_origin(annotation) in (dict, list):
            # blocks in it are stepped through by the next part, a name of the user's or a number
            model = (dict, arguments[-1])
        else:
            model = arguments[0] if arguments else annotation  # a block, or one or none
    return model.model_fields


def _known(name, datasets):
    if name not in datasets:
        raise ParamsError(f"dataset {name!r} is not in params.yaml" + _nearest(name, datasets))
    return name


def _nearest(word, valid):
    match = difflib.get_close_matches(str(word), list(map(str, valid)), n=1, cutoff=0)
    return f"; did you mean {match[0]!r}?" if match else ""


def _cross_check(params):
    """List the faults that lie between keys, and those of names and templates."""
    faults = key_faults({"datasets": params.datasets, "captioned": params.captioned,
                         "transfer.domain": params.transfer.domain})
    for method, block in params.methods.items():
        for name in block.study_datasets:
            if name not in params.datasets:
                faults.append(f"{method}.study_datasets: {name!r} is not a dataset"
                              + _nearest(name, params.datasets))
        if block.study_protocol == "base_to_new" and \
                {*block.study_shots} - {params.base_to_new_shots}:
            faults.append(f"{method}.study_shots: base-to-new is trained with base_to_new_shots = "
                          f"{params.base_to_new_shots} alone (found {block.study_shots})")
        few_shot = params.shots if block.few_shot else ()
        needed = {*few_shot, params.base_to_new_shots, *block.study_shots, params.transfer.shots}
        for shots in sorted(needed - set(block.schedule.epochs)):
            faults.append(f"{method}.schedule.epochs: no number of epochs for {shots} shots")
        for name in set(block.schedule.epochs_on) - set(params.datasets):
            faults.append(f"{method}.schedule.epochs_on: {name!r} is not a dataset"
                          + _nearest(name, params.datasets))
    if params.captioned and 1 not in params.aape.schedule.epochs:
        faults.append("aape.schedule.epochs: no number of epochs for 1 shot, as captioned needs")
    for name in params.captioned.keys() & params.datasets.keys():
        faults.append(f"captioned.{name}: there is a dataset of that name; rename one")
    transfer = params.transfer
    if transfer.source not in params.datasets:
        faults.append(f"transfer.source: {transfer.source!r} is not a dataset"
                      + _nearest(transfer.source, params.datasets))
    if transfer.shots not in params.shots:
        faults.append(f"transfer.shots: must be one of shots, with which linear probes are trained "
                      f"(found {transfer.shots})")
    for name in transfer.domain:
        if name == ORIGINAL or name in {**params.datasets, **params.captioned}:
            faults.append(f"transfer.domain.{name}: another kind of test images is called so; "
                          "rename it")
    for name in params.llm.corpora:
        if name not in params.datasets:
            faults.append(f"llm.corpora: {name!r} is not a dataset"
                          + _nearest(name, params.datasets))
    variants = [params.coop.few_shot, *params.coop.studies]
    for label in {variant.label for variant in variants}:
        if len({variant for variant in variants if variant.label == label}) > 1:
            faults.append(f"coop.studies: two variants would both be called {label!r} in the "
                          "results; they must differ in n_ctx, class_specific, position or in "
                          "having initial words")
    for name, dataset in params.datasets.items():
        if fault := template_fault(dataset.template):
            faults.append(f"datasets.{name}.template: {fault}")
    for name, dataset in params.every_dataset.items():
        kinds = {"images (with a split or without)": dataset.images, "a layout": dataset.layout}
        if name in transfer.domain:
            kinds["a shift"] = dataset.shift
        if sum(map(bool, kinds.values())) != 1 or dataset.split and not dataset.images:
            faults.append(f"{params.key_of(name)}: needs {', or '.join(kinds)}, and one of them")
    if len(set(params.seeds)) != len(params.seeds):
        faults.append(f"seeds: each only once (found {params.seeds})")
    return faults
