"""The best that can be: classifiers that are told the truth about the sources that were found.

Two ceilings, each gradient-boosted trees trained on sources found on training skies and asked of
those found on test skies:

- *noise-free truth*: true spectrum, flux, yearly factors and position;
- *noisy expectation*: true fluxes of the channels and of the years, each with Gaussian noise of the
  size of the candidate's own measured error, and the position. Of a measurement it lacks what goes beyond that
  error: confusion with neighbours, a wrong diffuse background, the bias of fluxes found by search.

They know nothing of FAKE, whose truth would be no flux at all: `with_measured_fake` joins a
ceiling with a classifier's own separation of FAKE. Both are as good as trees are after a limited
number of training sources, so a classifier trained on more can come out slightly above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from geminga.arrays import Float64, Int64
from geminga.classes import FAKE
from geminga.errors import InputError
from geminga.evaluation.class_metrics import Classified
from geminga.evaluation.class_truth import FoundSources, noisy_features, true_features

NOISE_FREE = "noise-free truth"
NOISY = "noisy expectation"

NOISE_DRAWS = 2
"""Draws of the noise of each training source."""

BALANCE = 0.5
"""Power of 1 / (number of the class) that weighs training sources: halfway to a balanced mix, for
trees learn neither from too few nor from a handful of heavy sources; undone exactly afterwards."""

ROUNDS = 250
"""Trees of each class."""

_TREES = {
    "learning_rate": 0.04,
    "max_leaf_nodes": 15,
    "l2_regularization": 5.0,
    "min_samples_leaf": 15,
    "early_stopping": False,
}


def measure_ceilings(
    train: Sequence[FoundSources],
    test: Sequence[FoundSources],
    classes: Sequence[str],
    seed: int,
    rounds: int = ROUNDS,
) -> dict[str, Classified]:
    """Classify the found sources of test skies as well as truth and expectation allow.

    Parameters
    ----------
    train, test : sequence of FoundSources
        One for each sky.
    classes : sequence of str
        True classes; FAKE, if there, is left out.
    seed : int
        Root seed of the noise.
    rounds : int
        Trees of each class.

    Returns
    -------
    dict of Classified
        `NOISE_FREE` and `NOISY`: the sources of all test skies in order, classes without FAKE; the
        natural prior is the mix of the training sources.

    Raises
    ------
    InputError
        If a class has no training source, or a source none of the classes.
    """
    names = tuple(name for name in classes if name != FAKE)
    label = _labels(train, names)
    missing = [name for k, name in enumerate(names) if not np.any(label == k)]
    if missing:
        raise InputError(
            "ceilings", f"no training source of class {', '.join(missing)}", "simulate more skies"
        )
    test_label = _labels(test, names)
    noisy_train = [
        [noisy_features(one, seed, draw) for one in train] for draw in range(NOISE_DRAWS)
    ]
    inputs = {
        NOISE_FREE: (
            _joined([true_features(one) for one in train]),
            label,
            _joined([true_features(one) for one in test]),
        ),
        NOISY: (
            _joined([_joined(parts) for parts in noisy_train]),
            np.tile(label, NOISE_DRAWS),
            _joined([noisy_features(one, seed, 0) for one in test]),
        ),
    }
    return {
        name: _classified(test, test_label, names, *_boosted(x, y, z, len(names), rounds))
        for name, (x, y, z) in inputs.items()
    }


def with_measured_fake(ceiling: Classified, classifier: Classified) -> Classified:
    """Give a ceiling a classifier's own separation of FAKE, for figures that count FAKE.

    A true source is FAKE as probably as the classifier says, and what is left is shared out as the
    ceiling says; a FAKE detection has the classifier's probabilities. What comes out is the best
    that can be *with FAKE recognised as it is*, not the best recognition of FAKE.

    Parameters
    ----------
    ceiling : Classified
        Without FAKE.
    classifier : Classified
        With FAKE, of the same true sources in the same order.

    Raises
    ------
    InputError
        If the true sources differ.
    """
    true = classifier.label < len(classifier.true_classes)
    theirs = classifier.take(true)
    if (
        ceiling.class_names != classifier.true_classes
        or not np.array_equal(ceiling.sky, theirs.sky)
        or not np.array_equal(ceiling.label, theirs.label)
    ):
        raise InputError(
            "ceiling",
            f"of {len(ceiling)} sources, not the classifier's {len(theirs)}",
            "measure the ceilings on the candidates that are classified",
        )
    natural, flat = (
        np.array(values, dtype=np.float64)
        for values in (classifier.probabilities, classifier.probabilities_flat)
    )
    for own, best in ((natural, ceiling.probabilities), (flat, ceiling.probabilities_flat)):
        own[true, :-1] = best * (1.0 - own[true, -1:])
    return replace(classifier, probabilities=natural, probabilities_flat=flat)


def _labels(found: Sequence[FoundSources], names: Sequence[str]) -> Int64:
    number = {name: k for k, name in enumerate(names)}
    given = [str(name) for one in found for name in one.truth["class_name"]]
    unknown = sorted(set(given) - set(number))
    if unknown:
        raise InputError(
            "true sources", f"of class {', '.join(unknown)}", f"classes are {list(names)}"
        )
    return np.array([number[name] for name in given], dtype=np.int64)


def _boosted(
    x: Float64, label: Int64, asked: Float64, k: int, rounds: int
) -> tuple[Float64, Float64]:
    """Return probabilities (n, k) with the natural prior and with the flat one."""
    share = np.bincount(label, minlength=k) / len(label)
    # Others cannot be binned: without years, for example, they do not scatter.
    used = [len(np.unique(column[np.isfinite(column)])) > 1 for column in x.T]
    x, asked = x[:, used], asked[:, used] if len(asked) else asked
    trees = HistGradientBoostingClassifier(**_TREES, max_iter=rounds, random_state=0)
    trees.fit(x, label, sample_weight=(1.0 / share[label]) ** BALANCE)
    given = (
        np.asarray(trees.predict_proba(asked), dtype=np.float64) if len(asked) else np.zeros((0, k))
    )
    trained = share ** (1.0 - BALANCE)
    return _normed(given * (share / trained)), _normed(given / trained)


def _classified(
    found: Sequence[FoundSources],
    label: Int64,
    names: tuple[str, ...],
    natural: Float64,
    flat: Float64,
) -> Classified:
    def column(of: Callable[[FoundSources], Float64]) -> Float64:
        return np.concatenate([np.zeros(0), *(of(one) for one in found)])

    return Classified(
        class_names=names,
        sky=np.repeat([one.sky for one in found], [len(one.truth) for one in found]).astype(
            np.int64
        ),
        label=label,
        probabilities=natural,
        probabilities_flat=flat,
        s1_true=column(lambda one: one.truth["s1"].to_numpy(np.float64)),
        lat_deg=column(lambda one: one.evidence.lat_deg),
        lon_deg=column(lambda one: one.evidence.lon_deg),
    )


def _joined(parts: Sequence[Float64]) -> Float64:
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def _normed(values: Float64) -> Float64:
    return np.asarray(values / values.sum(axis=1, keepdims=True))
