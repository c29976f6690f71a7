"""Classify images with a trained method: the five most probable classes of each.

Prints CSV (columns image, rank, class, probability) or JSON.
"""

import csv
import json
import sys

from ..params import load_params

SHOWN = 5  # classes of each image


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image file, or folder of them")
    add_choice(parser)
    parser.add_argument("--format", choices=("csv", "json"), default="csv",
                        help="of what is printed")


def add_choice(parser):
    """Declare the arguments that say which trained method is meant, and for which classes."""
    parser.add_argument("--dataset", required=True,
                        help="name of the dataset in params.yaml that it was trained on")
    parser.add_argument("--method", required=True,
                        help="name of a method in params.yaml, or zero_shot, or ensemble")
    parser.add_argument("--setting", help="PROTOCOL/VARIANT/SHOTS, e.g. few_shot/M16/4 (default: "
                        "the method's main one with the most shots; with --classes the "
                        "base-to-new one)")
    parser.add_argument("--seed", type=int, help="of the run (default: the first)")
    parser.add_argument("--classes", nargs="+", metavar="NAME",
                        help="names of other classes to choose from (default: the dataset's)")


def predictor(args):
    """Return `(params, Predictor)` of the arguments."""
    from ..prediction import load_predictor
    params = load_params(args.params)
    return params, load_predictor(params, params.dataset(args.dataset), args.method,
                                  setting=args.setting, seed=args.seed, class_names=args.classes)


def run(args):
    """Print the predictions."""
    from ..image_files import encode_files, find_images
    paths = find_images(args.images)
    params, chosen = predictor(args)
    images = encode_files(paths, chosen.backbone, params.features)
    shares = chosen.probabilities(images.features, images.local)
    best = shares.topk(min(SHOWN, len(chosen.class_names)))
    found = [[(chosen.class_names[label], share)
              for label, share in zip(labels, values, strict=True)]
             for labels, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    if args.format == "json":
        print(json.dumps([{"image": str(path), "classes": [
            {"class": name, "probability": round(share, 6)} for name, share in top]}
            for path, top in zip(paths, found, strict=True)], indent=1, ensure_ascii=False))
        return
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("image", "rank", "class", "probability"))
    for path, top in zip(paths, found, strict=True):
        table.writerows((path, rank, name, f"{share:.6f}")
                        for rank, (name, share) in enumerate(top, start=1))
