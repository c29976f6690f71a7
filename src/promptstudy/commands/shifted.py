"""Compute the features of the source's shifted versions, or take them from their packs."""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """The command takes no arguments."""


def run(args: Namespace) -> None:
    """Write one artefact for each version."""
    from ..clip.backbone import load_backbone
    from ..features import features
    params = load_params(args.params)
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    params.artefact("shifted", "").parent.mkdir(parents=True, exist_ok=True)  # there may be none
    for name in params.transfer.domain:
        pack, report = features(params, name, backbone)
        print(f"{name}: {report}")
        pack.save(params.artefact("shifted", name))
