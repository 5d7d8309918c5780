"""Self-contained html pages: style, scripts, pictures and data in one file that asks nothing of any other machine."""

import base64
import html
import json
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #22262b; background: #fff; margin: 0 auto; padding: 0 1.2em 2em; }
h1 { font-size: 1.4em; } h2 { font-size: 1.15em; margin: 2em 0 .5em; border-bottom: 1px solid #e5e7eb; }
table { border-collapse: collapse; } th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #e5e7eb; }
th:first-child, td:first-child { text-align: left; } pre { background: #f3f4f6; padding: .8em; overflow: auto; }
figure { margin: 0; } figcaption, .note { color: #6b7280; font-size: .9em; } img { max-width: 100%; }
button, select, input { font: inherit; }
"""


def page(title: str, body: str, data: Mapping[str, Any] | None = None, scripts: tuple[str, ...] = ()) -> str:
    """Return an html page.

    Args:
        title: text.
        body: html below the heading.
        data: plain values for the scripts, `JSON.parse(document.getElementById("data").textContent)` there.
        scripts: names of files beside this one, without the ending .js.
    """
    rules = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    held = json.dumps(data or {}, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    codes = [Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8") for name in scripts]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{rules}"><link rel="icon" href="data:,">',
            f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
            body,
            f'<script type="application/json" id="data">{held}</script>',
            *(f"<script>{code}</script>" for code in codes),
            "</body></html>\n",
        ]
    )


def packed(array: np.ndarray) -> dict[str, Any]:
    """Return an array as the scripts unpack it: deflated, in base64.

    What is deflated are differences along the first axis, all their low bytes before the higher ones: that packs best.

    Args:
        array: of uint8, uint16 or uint32; differences wrap around.
    """
    step = array.astype(array.dtype.newbyteorder("<"))
    step[1:] -= array[:-1]
    planes = step.reshape(-1, 1).view(np.uint8).T
    data = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
    return {"type": str(array.dtype), "shape": list(array.shape), "data": data}


def jpeg(image: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 RGB as the address of a JPEG."""
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def picture(figure: Figure, caption: str = "") -> str:
    """Return a figure of matplotlib as html."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    source = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>'
