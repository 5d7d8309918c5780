"""A study of a plane that a small network learns in seconds."""

from pathlib import Path

import pytest
import yaml

from dkp.study.plan import Plan, read_plan

SMALL = {
    "size": 32,
    "surface": None,
    "model.init_args.detector.init_args.width": 8,
    "model.init_args.detector.init_args.levels": 3,
    "data.init_args.num_workers": 0,
    "data.init_args.augmentation.mirror": 0.0,  # a plane has no left and right
    "sigma": 0.03,
    "sigma_final": 0.03,
    "scale": 0.04,
    "beta": 0.02,
    "trainer.enable_progress_bar": False,
    "trainer.max_steps": 60,
    "data.init_args.steps_per_epoch": 30,
}


def content(planes: Path) -> dict:
    """The plan as YAML holds it."""
    options = {key: value for key, value in SMALL.items() if value is not None}
    return {
        "seeds": [0, 1],
        "metrics": {"reconstruction": True, "point_similarity": True},
        "captures": {
            "plane": {
                "title": "A plane",
                "kind": "synthetic",
                "source": str(planes / "labelled"),
                "target": str(planes / "mine"),
                "options": options,
                "pseudo_label": {"points": 200, "min_views": 2, "sigma": 0.03, "threshold": 0.15},
            },
            "few": {
                "title": "A plane with few labels",
                "kind": "synthetic",
                "source": str(planes / "labelled"),
                "target": str(planes / "mine"),
                "labels": "target",
                "share": 0.5,
                "options": options,
            },
        },
        "methods": {
            "teacher": {"title": "teacher alone", "experiment": "teacher"},
            "labelled_only": {"title": "labelled only", "experiment": "labelled_only"},
            "control": {"title": "control", "experiment": "control"},
            "bootstrapping": {"title": "bootstrapping", "experiment": "bootstrapping"},
            "ours": {"title": "ours", "experiment": "adapted", "files": ["unregistered"]},
            "oracle": {"title": "oracle", "experiment": "oracle"},
        },
        "ordering": ["teacher", "ours"],
        "cuts": {"quick": ["plane/teacher/seed0", "plane/ours/seed0"]},
        "check": {"cell": "plane/ours/seed0", "tolerance": {"geodesic_median_cm": 0.05, "iou": 0.05}},
        "pictures": ["ours"],
        "ablations": {
            "clip": {
                "title": "Clip",
                "captures": ["plane"],
                "base": "ours",
                "axis": "clip [px]",
                "seeds": [0],
                "lines": {"ours": ["ours", 20]},
                "rows": {
                    "clip_10": {"title": "10 px", "options": {"clip": 10.0}, "x": 10, "line": "ours"},
                    "two_rounds": {"title": "two rounds", "rounds": 2},
                },
            }
        },
    }


@pytest.fixture
def plan_content(planes) -> dict:
    """The plan's content, to be changed at will."""
    return content(planes)


@pytest.fixture
def plan(planes, tmp_path) -> Plan:
    """The plan."""
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(content(planes), sort_keys=False))
    return read_plan(str(file))
