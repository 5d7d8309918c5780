"""Files are whole at any moment, and what is in the way keeps its content under another name."""

import pytest

from dkp.errors import InputError
from dkp.files import move_aside, whole_file, whole_folder, write_text


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path, shared):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with whole_file(path, shared) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(ZeroDivisionError), whole_file(path, shared) as partial:
        assert partial.write_text("half") / 0
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_processes_that_share_a_file_write_side_by_side(tmp_path):
    path = tmp_path / "table.npy"
    with whole_file(path, shared=True) as first, whole_file(path, shared=True) as second:
        assert first != second
        first.write_text("a")
        second.write_text("b")
    assert path.read_text() == "a"  # the outer block is the last to end
    assert [file.name for file in tmp_path.iterdir()] == ["table.npy"]


def test_a_text_that_cannot_be_written_says_why(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json cannot be written \(No such .*: .*gone is gone"):
        write_text(tmp_path / "gone" / "metrics.json", "{}")


def test_what_is_in_the_way_is_moved_aside(tmp_path):
    folder = tmp_path / "fit"
    for content in ("first", "second"):
        folder.mkdir()
        (folder / content).touch()
        move_aside(folder)
    move_aside(folder)
    assert {path.name: [one.name for one in path.iterdir()] for path in tmp_path.iterdir()} == {
        "fit.1": ["first"],
        "fit.2": ["second"],
    }


def test_a_folder_is_whole_or_not_there(tmp_path):
    with whole_folder(tmp_path / "deep" / "new") as folder:
        (folder / "a").write_text("x")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "a").read_text() == "x"
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "other"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    with pytest.raises(InputError, match="exists and is not empty"), whole_folder(tmp_path / "deep"):
        pass
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "b").touch()
    assert (tmp_path / "empty" / "b").exists()
