"""What trials need: captures of a plane, a trained teacher, and a sweep's file that starts from them."""

from pathlib import Path

import pytest
import yaml

from dkp.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"


def options(folder: Path, *recipe: str) -> list[str]:
    """The options of a fit of a few steps on the capture `mine`, with runs in folder/runs."""
    words = [f"--config={CONFIGS / name}.yaml" for name in [*recipe, "wandb", "debug/fast"]]
    words += [f"--data.val={folder / 'mine'}#test"]
    words += [f"--root={folder / 'runs'}", "--size=32", "--sigma=0.03", "--scale=0.05", "--data.augmentation.rotate=10"]
    words += [f"--{key}={folder / 'mine'}" for key in ("source", "target")]
    words += [f"--surface={folder / 'mine' / 'surface.npz'}", "--trainer.enable_progress_bar=false"]
    return [*words, "--model.detector.init_args.width=8", "--model.detector.init_args.levels=3"]


@pytest.fixture(scope="session")
def workspace(planes) -> Path:
    """The folder of the captures, with a teacher in runs/teacher."""
    if not (planes / "runs" / "teacher").exists():
        main(["fit", *options(planes, "board/teacher"), "--trainer.logger=true"])
    return planes


@pytest.fixture
def write_sweep(workspace, tmp_path):
    """Writes a sweep's file of trials that adapt the teacher."""

    def write(name="tiny", further=(), **keys):
        command = ["${env}", "${interpreter}", "-m", "dkp", "fit", *options(workspace, "board/adapted", "unregistered")]
        content = {
            "program": "dkp",
            "method": "grid",
            "metric": {"name": "val/geodesic_median_cm", "goal": "minimize"},
            "parameters": {"model.terms.multiview.weight": {"values": [0.5, 4.0]}},
            **keys,
            "command": [*command, *further, "${args}"],
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write
