"""A made-up results table that tables, claims and figures can be tried on."""

import itertools

import numpy as np

from promptstudy.outcomes import PLACE, Outcomes, write_outcomes
from promptstudy.results import results_table, write_results


def row(value, **changes):
    base = dict(suite="s", dataset="a", backbone="b", protocol="few_shot", method="coop",
                variant="M4", shots=1, seed=1, subset="all", metric="top1", n_test=1000)
    return {**base, **changes, "value": value}


PARTS = {"neither": 40, "text only": 45, "local only": 38, "shuffled": 30}
# base and new accuracy of CoOp's rivals, of the dual-view method and of its ablations
RIVALS = {"kgcoop": {"w8-M4": (60, 48)}, "prograd": {"w1-M4": (65, 45)},
          "dualview": {"M4": (68, 48), "M4 a=0.5": (62, 50)}}
VIEWS = {"CE only": (70, 40), "MI only": (66.5, 47), "aug only": (71, 39), "predicts": (60, 41)}
AAPE = {"identity": 54, "mean": 56, "no distillation": 50, "lambda 10": 55.5, "1 prompt": 53,
        "shuffled": 54, "class MLP": 52, "blind MLP": 52, "another image's AAPE": 20}
# accuracy at home, on other datasets and on shifts of every method's transferred variant
ELSEWHERE = {("zero_shot", "t"): (50, 30, 20), ("ensemble", "t"): (51, 31, 21),
             ("linear_probe", "val C"): (90, None, 18), ("coop", "M4"): (80, 25, 24),
             ("kgcoop", "w8-M4"): (75, 28, 27), ("prograd", "w1-M4"): (75, 28, 23),
             ("dualpt", "N2-M4"): (81, 26, 28), ("dualview", "M4"): (78, 29, 25),
             ("dualview", "M4 a=0.5"): (60, 30, 21), ("aape", "attention"): (85, 27, 22)}


def away_from_home(params):
    """Rows of both protocols; the images that were shifted are a point harder, `photos` too."""
    home, other = params.datasets
    places = {"cross_dataset": {home: (0, 0), other: (1, 0)},
              "domain": {home: (0, 0), "original": (0, -1), "lines": (2, 0), "photos": (2, -1)}}
    return [row(values[which] + change + seed, suite=params.suite, dataset=home, method=method,
                variant=variant, shots=2 * bool(seed), seed=seed, protocol=protocol, subset=subset)
            for protocol, subsets in places.items() for subset, (which, change) in subsets.items()
            for (method, variant), values in ELSEWHERE.items() if values[which] is not None
            for seed in ([0] if variant == "t" else params.seeds)
            if (method, protocol) != ("linear_probe", "cross_dataset")]


def made_up(params, new_after=40.0, gain=5.0):
    """Results in which CoOp has `new_after` percent on new classes, DuAl-PT and AAPE `gain` more.

    AAPE has 55 on new classes in its ablations; its gain on zero-shot falls with each quarter.
    """
    rows = away_from_home(params)
    for name in params.datasets:
        common = dict(suite=params.suite, dataset=name)
        for method in ("zero_shot", "ensemble"):
            rows.append(row(50, method=method, variant="t", shots=0, seed=0, **common))
            rows += [row(50, method=method, variant="t", shots=0, seed=0, subset=subset,
                         protocol="base_to_new", **common) for subset in ("base", "new")]
        for shots, seed in itertools.product(params.shots, params.seeds):
            rows.append(row(45 + 10 * shots + seed, shots=shots, seed=seed, **common))
            rows += [row(45 + gain + 10 * shots + seed, method=method, variant=variant, shots=shots,
                         seed=seed, **common)
                     for method, variant in (("dualpt", "N2-M4"), ("aape", "attention"))]
            rows.append(row(30 + 20 * shots, method="linear_probe", variant="val C", shots=shots,
                            seed=seed, **common))
            if name in params.coop.ablation_datasets:
                rows += [row(45 + shots, variant=context.label, shots=shots, seed=seed, **common)
                         for context in params.coop.ablations]
        rows.append(row(58, method="dualpt", variant="descriptions alone", shots=0, seed=0,
                        **common))
        if name in params.dualpt.ablation_datasets:
            rows += [row(value, method="dualpt", variant=part, shots=1, seed=seed, **common)
                     for part, value in PARTS.items() for seed in params.seeds]
        for seed in params.seeds:
            rows += [row(value + gain, method=method, variant=variant, shots=2, seed=seed,
                         subset=subset, protocol="base_to_new", **common)
                     for method, variant in (("dualpt", "N2-M4"), ("aape", "attention"))
                     for subset, value in (("base", 60), ("new", new_after))]
            if name in params.aape.ablation_datasets:
                rows += [row(value, method="aape", variant=ablation, shots=2, seed=seed,
                             subset=subset, protocol="base_to_new", **common)
                         for ablation, new in AAPE.items()
                         for subset, value in (("base", 70), ("new", new - 10))]
            rows += [row(50 - 5 * number + gain, method="aape", variant="attention", shots=2,
                         seed=seed, subset=f"quarter {number}", protocol="typicality", **common)
                     for number in range(1, 5)]
            rows += [row(value, shots=2, seed=seed, subset=subset, protocol="base_to_new",
                         **common) for subset, value in (("base", 70), ("new", new_after))]
            studied = VIEWS if name in params.dualview.ablation_datasets else {}
            rivals = RIVALS | {"dualview": RIVALS["dualview"] | studied}
            rows += [row(value + seed, method=method, variant=variant, shots=2, seed=seed,
                         subset=subset, protocol="base_to_new", **common)
                     for method, variants in rivals.items() for variant, pair in variants.items()
                     for subset, value in zip(("base", "new"), pair, strict=True)]
        rows += [row(40, method="zero_shot", variant="t", shots=0, seed=0, protocol="typicality",
                     subset=f"quarter {number}", **common) for number in range(1, 5)]
    for name in (*params.datasets, *params.captioned):  # captioned ones have no other rows
        rows += [row(value + k, method=method, variant=variant, shots=2, seed=0, dataset=name,
                     suite=params.suite, protocol="retrieval", subset=subset, metric=f"recall@{k}")
                 for subset in ("image_to_text", "text_to_image") for k in (1, 5, 10)
                 for method, variant, value in (("zero_shot", "t", 20),
                                                ("aape", "attention", 20 + gain))]
    return results_table(rows)


def with_outcomes(frame):
    """Rows with accuracies close to a table's, and which images are right, for `write_outcomes`.

    Runs of one place get the same images right as far as they can, so they differ by what their
    accuracies differ by.
    """
    rows = []
    for row in frame.to_dict("records"):
        count = round(row["value"] * row["n_test"] / 100)
        right = np.arange(row["n_test"]) < count
        images = " ".join(str(row[column]) for column in PLACE)
        rows.append({**row, "value": 100 * count / row["n_test"], "right": right,
                     "images": images})
    return rows


def outcomes_of(frame):
    """The `Outcomes` of a table, as if they had been stored."""
    rows = dict(zip(frame.index, with_outcomes(frame), strict=True))
    places = dict(frame.groupby(PLACE, sort=False).groups)
    return Outcomes(places, {place: np.packbits([rows[label]["right"] for label in labels], axis=0)
                             for place, labels in places.items()},
                    {place: rows[labels[0]]["images"] for place, labels in places.items()})


def write_made_up(reports, frame):
    """Write results and outcomes as the evaluation does; return the results that were written."""
    rows = with_outcomes(frame)
    results = frame.assign(value=[round(row["value"], 4) for row in rows])
    write_results(reports / "results.csv", results)
    write_outcomes(reports / "outcomes.safetensors", rows)
    return results
