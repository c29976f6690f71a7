"""What claims are decided by: summaries of the results, comparisons of two sides, verdicts."""

import pandas as pd

from ..results import average_over_datasets, harmonic_mean, main_rows, over_seeds

CLOSE = 3.0  # points of accuracy within which one method is called close to another


def few_shot_summary(frame, params):
    """Return mean and deviation of main variants, averaged over datasets, by method and shots."""
    main = main_rows(frame[frame["protocol"] == "few_shot"], params)
    return over_seeds(average_over_datasets(main)).set_index(["method", "shots"])


def base_to_new_summary(frame, by):
    """Return means and deviations over seeds of base, new and H, averaged over datasets.

    Index: subset, then method or variant. As in `base_to_new_table`, H is that of the means.
    """
    rows = average_over_datasets(frame[frame["protocol"] == "base_to_new"])
    runs = rows.pivot_table(index=[by, "seed"], columns="subset", values="value")
    runs["H"] = harmonic_mean(runs["base"], runs["new"])
    means, deviations = runs.groupby(by).mean(), runs.groupby(by).std(ddof=0)
    means["H"] = harmonic_mean(means["base"], means["new"])
    return pd.DataFrame({"mean": means.T.stack(), "std": deviations.T.stack()})


def over_runs(values, by="method"):
    """Return mean and deviation over seeds of a `transfer_runs` column, by method or variant."""
    grouped = values.groupby(by)
    return pd.DataFrame({"mean": grouped.mean(), "std": grouped.std(ddof=0)})


def all_ahead(pairs):
    """Return the verdict on the first of each pair being better than the second.

    It holds if all differences are above the spread over seeds, and is mixed if some are above 0.
    """
    gains = [(a["mean"] - b["mean"], max(a["std"], b["std"])) for a, b in pairs]
    return verdict(all(gain > spread for gain, spread in gains),
                   any(gain > 0 for gain, _ in gains))


def about_equal(pairs):
    """Return the verdict on the two of each pair being about equal.

    It holds if all differences lie within a point or the spread over seeds, and is mixed if some
    do.
    """
    close = [abs(a["mean"] - b["mean"]) <= max(1.0, a["std"], b["std"]) for a, b in pairs]
    return verdict(all(close), any(close))


def verdict(whole, partly=False):
    """Return the verdict on a claim that holds wholly, partly or not at all."""
    return "holds" if whole else "mixed" if partly else "does not hold"


def cell(row):
    """Return a row's mean and deviation as text."""
    return f"{row['mean']:.1f} ± {row['std']:.1f}"


def shot_counts(shots):
    """Return numbers of shots as text."""
    return f"{', '.join(map(str, shots))} shots" if shots else "no number of shots"
