import base64
import json
import re
import zlib

import numpy as np
import pytest
from matplotlib.figure import Figure

from dkp.viz.page import jpeg, packed, page, picture


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32"])
def test_packed_arrays_come_back(kind):
    array = np.random.default_rng(0).integers(0, 70000, (5, 3, 2)).astype(kind)
    held = packed(array)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(held["data"])), np.uint8)
    raw = planes.reshape(array.itemsize, -1).T.copy().view(held["type"]).reshape(held["shape"])
    np.testing.assert_array_equal(np.cumsum(raw, 0, dtype=kind), array)


def test_data_cannot_end_their_element_and_text_is_no_html():
    text = page("a <b>", "<p>x</p>", {"name": "</script><script>alert(1)"})
    assert "<h1>a &lt;b&gt;</h1>" in text
    (held,) = re.findall(r'id="data">(.*?)</script>', text)
    assert json.loads(held) == {"name": "</script><script>alert(1)"}


def test_a_page_may_load_nothing():
    figure = Figure()
    text = page(
        "t", picture(figure, "c") + f'<img src="{jpeg(np.zeros((8, 8, 3), np.uint8))}">', {}, ("data", "viewer")
    )
    assert "default-src 'none'" in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources
    assert all(source.startswith("data:") for source in sources)
