"""Renders the clips of a recording, one subject in one piece of motion at a time, and writes their files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures import DenseLabel, write_truth, write_view_files
from dkp.surface import Surface
from dkp.synthetic.background import Backdrop, make_backdrop, make_surroundings
from dkp.synthetic.body import SkinnedBody
from dkp.synthetic.domains import Domain
from dkp.synthetic.light import Lighting, Response, sample_lighting, sample_response
from dkp.synthetic.motion import sample_motion
from dkp.synthetic.noise import choose
from dkp.synthetic.recording import Recording
from dkp.synthetic.regions import BodyRegions
from dkp.synthetic.render import Person, pose_person, render_view

# First numbers of the keys under which independent random streams are drawn from the seed; the rig has 0.
_LIGHT, _SURROUNDINGS, _RESPONSE, _PERSON, _SHAPE, _MOTION, _VIEW = range(1, 8)

_UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""From the motion's world, y up, to the capture's, z up."""


@cache
def _template() -> tuple[BodyRegions, SkinnedBody]:
    return BodyRegions(Surface.load("human")), SkinnedBody.load("human")


@dataclass(frozen=True)
class Scene:
    """Where one subject is recorded.

    Attributes:
        lighting: Of the place.
        backdrops: Of every camera.
        responses: Of every camera.
    """

    lighting: Lighting
    backdrops: tuple[Backdrop, ...]
    responses: tuple[Response, ...]


class ClipRenderer:
    """Renders clips; keeps what the clips of the last subject shared.

    Attributes:
        recording: What is recorded.
        folder: The capture writer's folder.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        """Prepare to render; nothing is drawn yet."""
        self.recording = recording
        self.folder = folder
        self._scene: tuple[int, Scene] | None = None
        self._subject: tuple[int, Person, np.ndarray] | None = None

    def scene(self, subject: int) -> Scene:
        """The scene of a subject."""
        recording, domain = self.recording, self.recording.domain
        place = 0 if domain.shared_backdrop else subject
        if self._scene is None or self._scene[0] != place:
            lighting = sample_lighting(domain, np.random.default_rng(recording.stream(_LIGHT, place)))
            stream = recording.stream(_SURROUNDINGS, place)
            surroundings = make_surroundings(domain, list(recording.rig), lighting.directions[0], stream)
            backdrops, responses = [], []
            for index, camera in enumerate(recording.rig):
                # A standing adult fills most of the sensor's height, and a crop shows little more than the person.
                scale = recording.size / (0.9 * camera.size[1])
                backdrops.append(make_backdrop(surroundings, camera, index, scale))
                rng = np.random.default_rng(recording.stream(_RESPONSE, place, index))
                responses.append(sample_response(domain, rng))
            self._scene = place, Scene(lighting, tuple(backdrops), tuple(responses))
        return self._scene[1]

    def person(self, subject: int) -> tuple[Person, np.ndarray]:
        """A subject and the subject's body shape (S,)."""
        if self._subject is None or self._subject[0] != subject:
            domain = self.recording.domain
            regions, body = _template()
            person = Person.sample(regions, domain, np.random.default_rng(self.recording.stream(_PERSON, subject)))
            shape = sample_shape(body, domain, np.random.default_rng(self.recording.stream(_SHAPE, subject)))
            self._subject = subject, person, shape
        return self._subject[1:]

    def render(self, subject: int, clip: int, count: int) -> list[dict[str, Any]]:
        """Render and write all views of one clip.

        Args:
            subject: Whose clip.
            clip: Which clip.
            count: Its instants.

        Returns:
            The rows of the views.
        """
        recording, domain = self.recording, self.recording.domain
        (person, shape), scene, body = self.person(subject), self.scene(subject), _template()[1]
        rng = np.random.default_rng(recording.stream(_MOTION, subject, clip))
        activity = choose(domain.motions, rng) if domain.motions else None
        rotations, roots = sample_motion(rng, count, recording.fps, activity)
        rows = []
        for instant in range(count):
            skin, joints = body.pose(shape, rotations[instant], _UPRIGHT @ roots[instant])
            # The motion puts the feet of the mean body on the floor; other bodies have longer or shorter legs.
            drop = np.array([0.0, 0.0, skin[:, 2].min()])
            skin, points = skin - drop, np.stack(list(joints.values())) - drop
            front = joints["nose"] - (joints["left_ear"] + joints["right_ear"]) / 2
            moment = pose_person(person, skin, front / np.linalg.norm(front), scene.lighting)
            frame = recording.frame(subject, clip, instant)
            write_truth(self.folder, frame, moment.vertices)
            for index, camera in enumerate(recording.rig):
                view = render_view(
                    person,
                    moment,
                    camera,
                    scene.backdrops[index],
                    scene.lighting,
                    scene.responses[index],
                    domain,
                    recording.size,
                    np.random.default_rng(recording.stream(_VIEW, subject, clip, instant, index)),
                )
                pixels = camera.project(points) @ view.crop[:, :2].T + view.crop[:, 2]
                rows.append(
                    write_view_files(
                        self.folder,
                        frame,
                        camera.name,
                        view.image,
                        sequence=f"s{subject:02d}",
                        time=recording.time(clip, instant),
                        mask=view.face >= 0,
                        label=DenseLabel(view.face, view.barycentric),
                        crop=view.crop,
                        undistorted=True,
                        joints={key: (*pixel, 1.0) for key, pixel in zip(joints, pixels.tolist(), strict=True)},
                        domain=domain.name,
                    )
                )
        return rows


def sample_shape(body: SkinnedBody, domain: Domain, rng: np.random.Generator) -> np.ndarray:
    """Body shape parameters (S,) of one person of a domain."""
    shape = domain.shape_scale * rng.standard_normal(body.shape_dim)
    shift = np.zeros(body.shape_dim)
    given = domain.shape_shift[: body.shape_dim]
    shift[: len(given)] = given
    return np.clip(shape + shift, -3.0, 3.0)
