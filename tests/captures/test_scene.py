"""The scene that the other tests rest on."""

import numpy as np
import torch


def test_labels_name_the_point_that_the_pixel_sees(make_scene):
    scene = make_scene(distortion=(-0.2, 0.05, 0.002, -0.001, 0.01))
    for time, camera in enumerate(scene.cameras().values()):
        label = scene.label(camera, time)
        rows, columns = np.nonzero(label.foreground)
        assert len(rows) > 500
        face, barycentric = label.face[rows, columns], label.barycentric[rows, columns]
        points = np.einsum("nk,nki->ni", barycentric, scene.vertices(time)[scene.surface.faces[face]])
        pixels = camera.project(torch.from_numpy(points))[0].numpy()
        np.testing.assert_allclose(pixels, np.stack([columns, rows], -1) + 0.5, atol=1e-4)
