"""Reference values for src/score/statistics.rs from scipy and statsmodels.

    pip install numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
    python make_statistics.py        # writes statistics.json beside this file
"""

import json
import pathlib

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

ITEMS = 60
RESAMPLES = 200_000
rng = np.random.default_rng(20260101)


def answer_file(skill):
    """Item scores of one file: exact match, ROUGE-1, BERTScore."""
    em = (rng.random(ITEMS) < skill).astype(float)
    rouge = np.round(np.clip(rng.normal(0.25 + 0.25 * skill, 0.15, ITEMS), 0, 1), 4)
    bert = np.round(np.clip(rng.normal(0.6 + 0.1 * skill, 0.08, ITEMS), 0, 1), 4)
    return {"em": em, "rouge1": rouge, "bertscore": bert, "final_mean": (em + rouge + bert) / 3}


def interval(values):
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng
    )
    return [result.confidence_interval.low, result.confidence_interval.high]


def permutation(left, right):
    result = stats.permutation_test(
        (left, right),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="two-sided",
        rng=rng,
    )
    return result.pvalue


files = {name: answer_file(skill) for name, skill in [("a", 0.45), ("b", 0.55), ("c", 0.75)]}
metrics = ["rouge1", "bertscore", "em", "final_mean"]

comparisons = []
for left, right in [("a", "b"), ("a", "c"), ("b", "c")]:
    a, b = files[left], files[right]
    won = int(np.sum((b["em"] == 1) & (a["em"] == 0)))
    lost = int(np.sum((b["em"] == 0) & (a["em"] == 1)))
    both = int(np.sum((b["em"] == 1) & (a["em"] == 1)))
    neither = ITEMS - won - lost - both
    comparisons.append(
        {
            "a": left,
            "b": right,
            "permutation_p": {m: permutation(b[m], a[m]) for m in metrics},
            # Few enough items for scipy to enumerate every swap.
            "permutation_p_first_12": {m: permutation(b[m][:12], a[m][:12]) for m in metrics},
            "difference_interval": {m: interval(b[m] - a[m]) for m in metrics},
            "won": won,
            "lost": lost,
            "mcnemar_p": mcnemar([[both, lost], [won, neither]], exact=True).pvalue,
        }
    )

p_families = [[0.01, 0.04, 0.03, 0.9], [0.5, 0.5], [0.0004, 0.02, 0.021, 0.022, 0.3, 1.0]]
coins = [(0, 1), (3, 9), (1, 30), (40, 61), (700, 800), (0, 1500), (1100, 1100)]

golden = {
    "made_with": {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "statsmodels": statsmodels.__version__,
        "resamples": RESAMPLES,
    },
    "files": {
        name: {m: values[m].tolist() for m in ["em", "rouge1", "bertscore"]}
        for name, values in files.items()
    },
    "intervals": {name: {m: interval(f[m]) for m in metrics} for name, f in files.items()},
    "comparisons": comparisons,
    "holm": [
        {"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in p_families
    ],
    "fair_coin": [
        {"first": x, "second": y, "p": stats.binomtest(x, x + y, 0.5).pvalue} for x, y in coins
    ],
}
path = pathlib.Path(__file__).with_name("statistics.json")
path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
