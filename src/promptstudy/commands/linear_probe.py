"""Fit the linear probes of a dataset: every shot count and seed of the suite."""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--dataset", required=True, help="name of the dataset in params.yaml")


def run(args: Namespace) -> None:
    """Write the probes' artefact."""
    from ..clip.backbone import load_backbone
    from ..datasets.packs import FeaturePack
    from ..files import save_tensors
    from ..methods.linear_probe import fit_all, provenance
    params = load_params(args.params)
    name = params.dataset(args.dataset)
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    pack = FeaturePack.load(params.artefact("features", name),
                            {"image_fingerprint": backbone.image_fingerprint})
    tensors = fit_all(params, pack, progress=f"linear probes of {name}")
    save_tensors(params.artefact("linear_probe", name), tensors, provenance(params, pack, backbone))
