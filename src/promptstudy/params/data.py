"""The blocks about images: backbone, datasets, transfer, captioned datasets, features."""

from typing import Annotated, Literal

from pydantic import Field

from .blocks import Block, Positive

ORIGINAL = "original"  # the name in results of the source's images that shifts are made from


class BackboneParams(Block):
    """Which frozen CLIP to use (see `clip.backbone.load_backbone`)."""

    name: str
    pretrained: str | None = None


Layout = Literal[
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101", "imagenetv2", "imagenet_sketch",
    "imagenet_a", "imagenet_r"]


class ImagesParams(Block):
    """Where a dataset's images are, and their classes and splits."""

    layout: Layout | None = Field(
        None, description="one of CoOp's datasets, in its folder below data_root (see "
                          "`datasets.layouts`); instead of images and split")
    images: str | None = Field(None, description="folder of images, relative to data_root")
    split: str | None = Field(
        None, description="CoOp split JSON, relative to data_root (to params.yaml with a leading "
                          "./); null: one folder per class, split 50/20/30 with a fixed seed "
                          "(not split if only for tests)")


class DatasetParams(ImagesParams):
    """A dataset, and how its class names become a prompt."""

    template: str = Field("a photo of a {}.", description="hand-crafted prompt; {} is the class")
    human: str | None = Field(
        None, description="sentences that people wrote about its classes, relative to data_root: "
                          "{class: [sentence, ...]} in JSON, or Grocery Store's classes.csv")


class TargetParams(ImagesParams):
    """A shifted version of the source, only for tests: images of all or some of its classes.

    It has a dataset's keys, or is made from the source's own test images. The prompt is the
    source's.
    """

    shift: Literal["sketch", "rendition", "blur_noise", "small"] | None = Field(
        None, description="shift to apply to the source's test images (see `datasets.shifts`)")


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
    """A dataset of images with captions instead of classes, for retrieval."""

    images: str = Field(description="folder of images, relative to data_root")
    captions: str = Field(
        description='relative to data_root: {"image": path, "captions": [sentence, ...]} per line, '
                    "or Karpathy's JSON of COCO or Flickr30k (see `datasets.captions`)")


class FeatureParams(Block):
    """What is computed once from every image."""

    batch_size: Positive = 64
    views: Annotated[int, Field(ge=0)] = Field(
        4, description="augmented views per training image; 0: train on the test transform")
    local_grid: Positive = Field(3, description="local features are pooled to a grid of n x n")
