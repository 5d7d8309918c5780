"""Chosen cells of a field."""

import numpy as np
import torch

from dkp.fields import gather_cells


def test_gather_cells_against_numpy():
    field = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    index = torch.tensor([[0, 19], [7, 3]])
    expected = [[field.numpy()[b, :, i // 5, i % 5] for i in row] for b, row in enumerate(index.tolist())]
    np.testing.assert_array_equal(gather_cells(field, index).numpy(), np.array(expected))
    np.testing.assert_array_equal(gather_cells(field[:, 0], index).numpy(), np.array(expected)[..., 0])
