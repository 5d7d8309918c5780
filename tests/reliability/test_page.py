"""What docs/reliability.md says was tested is tested there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_the_tests_that_the_page_names_are_there():
    text = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\btests/[\w/.]*\w|(?<![\w/])test_\w+\.py", text))
    assert len(named) > 30
    known = {path.name for path in TESTS.rglob("test_*.py")}
    missing = [name for name in named if not (TESTS.parent / name).exists() and name not in known]
    assert not missing
