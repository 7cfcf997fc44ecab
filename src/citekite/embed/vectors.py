"""Scaling of vectors to unit length, the same for every embedder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from citekite.ports import Vectors


def unit_vectors(rows: npt.ArrayLike) -> Vectors:
    """Each row scaled to length 1, shape kept; a row of zeros becomes the uniform vector.

    A text without any token has no direction of its own. The uniform vector keeps it storable and about equally far
    from everything, where dividing by its length would put NaN into the index.

    >>> unit_vectors([[3, 4], [0, 0]]).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.7070000171661377, 0.7070000171661377]]
    """
    vectors: Vectors = np.array(rows, dtype=np.float32)
    # float64, because the square of a large component overflows float32
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    empty = lengths == 0
    vectors[empty] = 1
    lengths[empty] = np.sqrt(vectors.shape[1])
    vectors /= lengths[:, None].astype(np.float32)
    return vectors
