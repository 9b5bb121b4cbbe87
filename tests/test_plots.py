"""Plots: what is in a figure is what was to be shown."""

import numpy as np

from greenroom.training import plots


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_confusion_matrix_shows_counts_and_shares_of_the_actual_class():
    figure = plots.confusion_matrix((0, 1), np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert texts(figure.axes[0]) == ["2\n66.7%", "1\n33.3%", "0\n0.0%", "1\n100.0%"]


def test_a_roc_curve_says_its_area_with_the_interval():
    positive = np.array([False, True] * 50)
    figure = plots.roc_curve([("1", positive, np.arange(100.0))])
    assert legend(figure.axes[0])[1].startswith("AUC 0.510 (")


def test_a_precision_recall_curve_says_what_chance_would_give():
    positive = np.array([True, False, False, False])
    figure = plots.precision_recall_curve([("1", positive, np.array([4.0, 3, 2, 1]))])
    assert legend(figure.axes[0]) == [
        "average precision 1.000",
        "chance: the share of events, 0.250",
    ]


def test_importance_puts_the_first_feature_on_top_and_leaves_out_the_long_tail():
    importance = {f"feature {number}": 1.0 / (number + 1) for number in range(30)}
    axes = plots.feature_importance(importance).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == plots.MOST_FEATURES_SHOWN
    assert names[-1] == "feature 0"


def test_many_points_are_drawn_as_density():
    few, many = np.arange(10.0), np.arange(plots.MOST_POINTS_DRAWN + 1.0)
    assert len(plots.agreement(few, few).axes) == 1
    assert len(plots.agreement(many, many).axes) == 2  # the second explains the colours


def test_the_style_ends_with_its_context():
    import matplotlib as mpl

    before = mpl.rcParams["axes.grid"]
    with plots.style():
        assert mpl.rcParams["axes.grid"]
    assert mpl.rcParams["axes.grid"] == before
