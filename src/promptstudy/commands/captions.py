"""Compute the features of a captioned dataset and train AAPE's retrieval on it."""

from ..params import load_params


def arguments(parser):
    """Declare what the command takes."""
    parser.add_argument("--dataset", required=True, help="name under captioned in params.yaml")


def run(args):
    """Write the artefacts of its features and of AAPE."""
    from ..clip.backbone import load_backbone
    from ..clip.descriptions import encode_descriptions
    from ..clip.text import TextEncoder
    from ..datasets.captions import load_captions, own_labels
    from ..features import features
    from ..methods.aape_retrieval import Retriever
    from ..training import train_plan
    params = load_params(args.params)
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    pack, _ = features(params, args.dataset, backbone)
    pack.save(params.artefact("features", args.dataset))
    texts = load_captions(params, args.dataset)
    prompts = encode_descriptions(encoder, texts, pack.train.paths, f"captions of {args.dataset}")

    def build(setting, names, draws):
        return Retriever(encoder.dim, setting.variant, backbone.logit_scale, params.seeds, prompts)

    train_plan(params, "aape", own_labels(pack), backbone, build, texts)
