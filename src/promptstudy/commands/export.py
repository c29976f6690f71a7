"""Export what a method learned: as class weights for open_clip, or as a checkpoint of CoOp's code.

The class weights are a safetensors file with model, class names, logit scale and provenance.
"""

from pathlib import Path

from . import predict


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write")
    predict.add_choice(parser)
    parser.add_argument("--format", choices=("weights", "coop"), default="weights",
                        help="class weights [C, d] (default), or CoOp's prompt_learner checkpoint")


def run(args):
    """Write the file and say what is in it."""
    from .. import export
    params, chosen = predict.predictor(args)
    setting = chosen.setting.key if chosen.setting else None
    if args.format == "coop":
        export.save_coop(args.out, chosen)
        print(f"{args.out}: the context of {args.method}, {setting}, seed {chosen.seed}")
        return
    made_from = {"dataset": args.dataset, "method": args.method, "setting": setting,
                 "seed": chosen.seed}
    if setting:
        made_from |= export.provenance(params.artefact(args.method, args.dataset))
    weights = chosen.class_weights()
    export.save_weights(args.out, params, chosen.backbone, chosen.class_names, weights, made_from)
    print(f"{args.out}: class weights {list(weights.shape)} of {args.method}, "
          f"{setting or 'nothing learned'}, seed {chosen.seed}")
