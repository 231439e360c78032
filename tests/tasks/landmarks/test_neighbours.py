"""The baseline of similar training images."""

import numpy as np
from spots import NAMES, Spots, case

from ganatomy.tasks.landmarks.neighbours import Neighbours, mean_points


def test_landmarks_are_those_of_the_most_alike_images():
    task = Spots().task
    moved = {"top": (7, 5, 2), "middle": (4, 1, 6), "bottom": (1, 2, 5)}
    training = [case(task, "a"), case(task, "b", shifted=moved), case(task, "c", there=("top",))]
    known = Neighbours.of("mr", "spots", training)
    np.testing.assert_array_equal(known.locate(case(task, "new"), 1), training[0].arrays["spots"])
    assert len(known.images) == 3 and known.images[0].sum() < 1e-4
    # Two of three have each landmark but the first, which all have.
    assert mean_points(known.points)[:, 0, 0, 3].tolist() == [1, 1, 1]
    assert mean_points(known.points[1:])[NAMES.index("middle"), 0, 0, 3] == 1  # one of two is half


def test_nothing_is_known_without_landmarks():
    task = Spots().task
    bare = case(task, "a").without(["spots"])
    assert Neighbours.of("mr", "spots", [bare]) is None and Neighbours.of("mr", "spots", []) is None
