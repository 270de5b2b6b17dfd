"""Slow, obvious, independent versions of what segment does with objects and scores."""

from __future__ import annotations

from collections import defaultdict
from itertools import product


def components(mask, n_shared):
    """Flood fill from each voxel in turn; neighbours differ along at most `n_shared` axes (1, 2, 3: 6, 18, 26).

    Returns a list of sets of (z, y, x), in the order of their first voxels.
    """
    todo = {tuple(map(int, where)) for where in zip(*mask.nonzero(), strict=True)}
    steps = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= n_shared]
    found = []
    for start in sorted(todo):
        if start not in todo:
            continue
        todo.remove(start)
        component, border = {start}, [start]
        while border:
            here = border.pop()
            for step in steps:
                there = tuple(a + b for a, b in zip(here, step, strict=True))
                if there in todo:
                    todo.remove(there)
                    component.add(there)
                    border.append(there)
        found.append(component)
    return found


def objects(labels):
    """Return the set of voxels of each object, by label."""
    found = defaultdict(set)
    for where, label in ((tuple(map(int, where)), int(labels[where])) for where in zip(*labels.nonzero(), strict=True)):
        found[label].add(where)
    return dict(found)


def voxel_scores(predicted, true):
    """Compare sets of voxels."""
    found, wanted = set(zip(*predicted.nonzero(), strict=True)), set(zip(*true.nonzero(), strict=True))
    both = found & wanted
    return {
        "iou": len(both) / len(found | wanted),
        "dice": 2 * len(both) / (len(found) + len(wanted)),
        "precision": len(both) / len(found),
        "recall": len(both) / len(wanted),
        "n_voxels": true.size,
        "tp": len(both),
        "fp": len(found - wanted),
        "fn": len(wanted - found),
        "tn": true.size - len(found | wanted),
    }


def object_f1(predicted, true, threshold):
    """Compare every predicted with every true object."""
    found, wanted = objects(predicted), objects(true)
    n_matched = sum(
        len(one & other) / len(one | other) > threshold for one in found.values() for other in wanted.values()
    )
    return 2 * n_matched / (len(found) + len(wanted))


def second_moments(voxels, voxel_nm):
    """Return the covariance of position in nm over a set of voxels, each sampled at 4 × 4 × 4 points."""
    sub = [(-3 / 8), (-1 / 8), (1 / 8), (3 / 8)]
    points = [
        [(index + offset) * side for index, offset, side in zip(voxel, offsets, voxel_nm, strict=True)]
        for voxel in voxels
        for offsets in product(sub, repeat=3)
    ]
    mean = [sum(point[axis] for point in points) / len(points) for axis in range(3)]
    return [
        [sum((p[a] - mean[a]) * (p[b] - mean[b]) for p in points) / len(points) for b in range(3)] for a in range(3)
    ]
