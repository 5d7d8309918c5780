"""Draw the figures of README and docs again, from what the runs left: see `make figures`."""

import json
import shutil
from pathlib import Path

from dkp.bench.report import plot_loss, plot_step
from dkp.pipeline.figure import draw_figure

DOCS = Path(__file__).parent
JOB = Path("runs/train-synthetic-seed0")

speed = json.loads((DOCS / "results/speed/bench.json").read_text())
plot_loss(speed["loss"], DOCS / "results/speed/loss.png")
plot_step(speed["pipeline"], DOCS / "results/speed/step.png")
shutil.copyfile(draw_figure(JOB), DOCS / "main-job.png")
