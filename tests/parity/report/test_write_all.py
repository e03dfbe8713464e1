"""All formats together, and what happens where nothing can be written."""
import errno
import io
import json
import os
from pathlib import Path

import pytest
from report_samples import POLICIES, agreeing, differing, pictures
from rich.console import Console

from parity.report import Pictures, ReportError, write_all
from parity.report.files import write
from parity.report.terminal import print_report


def console() -> Console:
    return Console(file=io.StringIO(), width=80)


@pytest.mark.parametrize("report", [agreeing(), differing()])
def test_all_files_are_written_and_named(report, tmp_path):
    out, folder = console(), tmp_path / "new" / "folder"
    paths = write_all(report, pictures(), POLICIES, folder, out)
    assert {path.name for path in folder.iterdir()} == {
        "report.json", "report.html", "report.md", "junit.xml", "badge.json"}
    assert set(paths) == {"json", "html", "junit", "markdown", "badge"}
    text = out.file.getvalue()
    assert all(str(path) in text.splitlines() for path in paths.values())
    word = "AGREE" if report.passed else "DIFFER"
    assert text.startswith(word)
    last = text.rstrip().rpartition("\n\n")[2]  # it may take more than one line of the terminal
    assert last.startswith(word)
    page = paths["html"].read_text()
    assert page.rindex(f"{word}:") > page.rindex("</table>")
    assert json.loads(paths["json"].read_text())["passed"] is report.passed


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal_but_paths(width):
    out = Console(file=io.StringIO(), width=width)
    for report in (agreeing(), differing()):
        print_report(report, out, POLICIES)
    lines = [line for line in out.file.getvalue().splitlines() if "reproduce with" not in line]
    assert width / 2 < max(map(len, lines)) <= width


def test_a_folder_that_is_moved_afterwards_is_named_by_its_last_place(tmp_path):
    out = console()
    write_all(agreeing(), Pictures(), POLICIES, tmp_path / "making", out, final=tmp_path / "final",
              closing="Up to iteration 7.")
    text = out.file.getvalue()
    assert str(tmp_path / "final" / "report.html") in text.splitlines()
    assert "making" not in text
    assert text.index("Up to iteration 7.") < text.rindex("AGREE")


def test_the_tables_of_layers_can_be_left_out(tmp_path):
    out = console()
    write_all(agreeing(), Pictures(), POLICIES, tmp_path, out, layers=False)
    assert "leaky_relu5" not in out.file.getvalue()


def test_the_verdict_is_printed_even_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    out = console()
    with pytest.raises(ReportError) as raised:
        write_all(agreeing(), Pictures(), POLICIES, tmp_path / "file" / "folder", out)
    assert str(raised.value) == (
        f"report.json cannot be written in {tmp_path}/file/folder (Not a directory): give a folder "
        "that can be written, with 1 MB free")
    assert out.file.getvalue().startswith("AGREE")


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(step, tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ReportError, match="No space left on device"):
        write(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "report.json"
    write(path, b"old")
    write(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
