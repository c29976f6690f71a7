"""Evaluate a checkpoint of CoOp's code (prompt_learner/model.pth.tar-EPOCH) on a dataset.

Its context is put around the dataset's class names; top-1 accuracy on the test images is printed.
"""

from pathlib import Path

from ..params import load_params


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", type=Path, help="the file of CoOp's code")
    parser.add_argument("--dataset", required=True, help="name of the dataset in params.yaml")
    parser.add_argument("--position", choices=("end", "middle", "front"), default="end",
                        help="of the class name in the prompt, as it was trained (default: end)")
    parser.add_argument("--out", type=Path, help="file of class weights to write (see `export`)")


def run(args):
    """Print the accuracy; write the class weights if asked to."""
    from .. import export
    from ..evaluation import Evaluation
    params = load_params(args.params)
    context = export.load_coop(args.checkpoint)
    evaluation = Evaluation.load(params, params.dataset(args.dataset))
    subsets = ("all",) if context.ndim == 3 else ("all", "base", "new")
    for subset in subsets:
        model = export.around(context, evaluation.encoder, evaluation.names_of(subset),
                              evaluation.logit_scale, args.position)
        predicted = model.predict(*evaluation.inputs(model, subset))[0]
        evaluation.add("few_shot", "coop", model.layout.n_ctx, 0, 0, subset, predicted)
    found = ", ".join(f"{row['subset']} {row['value']:.1f}" for row in evaluation.rows)
    print(f"{args.checkpoint}, M = {context.shape[-2]}: top-1 on the test images of "
          f"{args.dataset}, in %: {found}")
    if args.out:
        model = export.around(context, evaluation.encoder, evaluation.class_names,
                              evaluation.logit_scale, args.position)
        export.save_weights(args.out, params, evaluation.backbone, evaluation.class_names,
                            model.class_features().detach()[0],
                            {"dataset": args.dataset, **export.provenance(args.checkpoint)})
        print(f"{args.out}: class weights [{len(evaluation.class_names)}, "
              f"{evaluation.encoder.dim}]")
