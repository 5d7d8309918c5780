"""Renders the clips of a recording, one subject in one piece of motion at a time, and writes their files."""

from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures import DenseLabel, write_truth, write_view_files
from dkp.synthetic.background import make_backdrop, make_surroundings
from dkp.synthetic.body import SkinnedBody, load_body
from dkp.synthetic.captured import CapturedRig
from dkp.synthetic.domains import Domain
from dkp.synthetic.light import sample_lighting, sample_response
from dkp.synthetic.likeness import Likenesses
from dkp.synthetic.noise import choose
from dkp.synthetic.recording import Recording
from dkp.synthetic.render import Conditions, Subject, pose_subject, render_view
from dkp.synthetic.species import facing, find_species

# First numbers of the keys under which independent random streams are drawn from the seed; the rig has 0.
_LIGHT, _SURROUNDINGS, _RESPONSE, _LOOKS, _SHAPE, _MOTION, _VIEW, _EXPOSURE = range(1, 9)

_UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""From the motion's world, y up, to the capture's, z up."""


class ClipRenderer:
    """Renders clips; keeps what the clips of the last subject shared.

    Attributes:
        recording: What is recorded.
        folder: The capture writer's folder.
        species: What the subjects are.
        body: Their skinned body.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        """Prepare to render; nothing is drawn yet."""
        self.recording = recording
        self.folder = folder
        self.species = find_species(recording.species)
        self.body = load_body(recording.species)
        self.captured = CapturedRig(recording.into, recording.size) if recording.into else None
        self.likenesses = None
        if self.captured is not None and recording.subject is not None:
            self.likenesses = Likenesses(recording.subject, self.captured, self.body)
        self._conditions: tuple[int, Conditions] | None = None
        self._subject: tuple[int, Subject, np.ndarray] | None = None

    def conditions(self, subject: int, clip: int) -> Conditions:
        """Return the conditions of a clip: in a rig of one's own, those of its subject."""
        recording, domain = self.recording, self.recording.domain
        if self.captured is not None:
            rng = np.random.default_rng(recording.stream(_LIGHT, subject, clip))
            return self.captured.conditions(domain, subject, rng)
        scene = 0 if domain.shared_backdrop else subject
        if self._conditions is None or self._conditions[0] != scene:
            lighting = sample_lighting(domain, np.random.default_rng(recording.stream(_LIGHT, scene)))
            stream = recording.stream(_SURROUNDINGS, scene)
            surroundings = make_surroundings(domain, list(recording.rig), lighting.directions[0], stream)
            backdrops, responses = [], []
            for index, camera in enumerate(recording.rig):
                # A standing adult fills most of the sensor's height, and a crop shows little more than the person.
                scale = recording.size / (0.9 * camera.size[1])
                backdrops.append(make_backdrop(surroundings, camera, index, scale))
                rng = np.random.default_rng(recording.stream(_RESPONSE, scene, index))
                responses.append(sample_response(domain, rng))
            self._conditions = scene, Conditions(recording.rig, lighting, backdrops, responses)
        return self._conditions[1]

    def subject(self, number: int) -> tuple[Subject, np.ndarray]:
        """Return what a subject looks like, and its body shape (S,)."""
        if self._subject is None or self._subject[0] != number:
            domain = self.recording.domain
            looks_rng, shape_rng = (
                np.random.default_rng(self.recording.stream(key, number)) for key in (_LOOKS, _SHAPE)
            )
            if self.likenesses is None:
                looks = self.species.sample_subject(domain, looks_rng)
                shape = sample_shape(self.body, domain, shape_rng)
            else:
                likeness = self.likenesses(number)
                looks, shape = likeness.subject, likeness.sample_shape(shape_rng)
            self._subject = number, looks, shape
        return self._subject[1:]

    def render(self, subject: int, clip: int, count: int) -> list[dict[str, Any]]:
        """Render and write all views of one clip.

        Returns:
            The rows of the views.
        """
        recording, domain = self.recording, self.recording.domain
        (looks, shape), conditions = self.subject(subject), self.conditions(subject, clip)
        rng = np.random.default_rng(recording.stream(_MOTION, subject, clip))
        activity = choose(domain.motions, rng) if domain.motions else None
        # Between two instants lie as many poses as exposures fit; the pose after an instant's says how it moves.
        exposure = np.random.default_rng(recording.stream(_EXPOSURE, subject, clip)).uniform(*domain.exposure_time)
        finer = max(round(1 / (recording.fps * exposure)), 1) if exposure else 1
        poses = (count - 1) * finer + (2 if exposure else 1)
        rotations, roots = self.species.sample_motion(rng, poses, recording.fps * finer, activity, shape)
        rows = []
        for instant in range(count):
            now = instant * finer
            skin, joints = self.body.pose(shape, rotations[now], _UPRIGHT @ roots[now])
            move = None
            if exposure:
                move = self.body.pose(shape, rotations[now + 1], _UPRIGHT @ roots[now + 1])[0] - skin
            # The motion puts joints at their height above the floor; other bodies have longer legs or thicker skin.
            drop = np.array([0.0, 0.0, skin[:, 2].min()])
            skin, points = skin - drop, np.stack(list(joints.values())) - drop
            moment = pose_subject(looks, skin, facing(joints), conditions.lighting, move)
            frame = recording.frame(subject, clip, instant)
            to_world = conditions.to_world
            write_truth(self.folder, frame, moment.vertices @ to_world[:3, :3].T + to_world[:3, 3])
            for index, camera in enumerate(conditions.rig):
                view = render_view(
                    looks,
                    moment,
                    camera,
                    conditions.backdrops[index],
                    conditions.lighting,
                    conditions.responses[index],
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
                        override=conditions.overrides.get(camera.name),
                        joints={key: (*pixel, 1.0) for key, pixel in zip(joints, pixels.tolist(), strict=True)},
                        domain=domain.name,
                    )
                )
        return rows


def sample_shape(body: SkinnedBody, domain: Domain, rng: np.random.Generator) -> np.ndarray:
    """Body shape parameters (S,) of one subject of a domain."""
    shape = domain.shape_scale * rng.standard_normal(body.shape_dim)
    shift = np.zeros(body.shape_dim)
    given = domain.shape_shift[: body.shape_dim]
    shift[: len(given)] = given
    return np.clip(shape + shift, -3.0, 3.0)
