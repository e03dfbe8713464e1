"""The table of mistakes that are examined with real CNTK and with certificates."""
import io
from dataclasses import replace

import pytest
from rich.console import Console

from parity.evidence import certified
from parity.evidence.defect import OURS, catalogue
from parity.evidence.examine import Result


@pytest.fixture
def main(tmp_path, monkeypatch):
    """main(change, bits): the exit code, where every mistake is found at one place, but for what
    ``change`` makes of the results with certificates; and what was printed and written."""
    def main(change=lambda result: result, bits=(5, 5), only=(), each=0):
        def run(wanted, plan, folder, console, make=None):
            found = {one.title: Result(one.title, "", "optimizer", "a/b/c", None, 2.0, blame="port")
                     for one in wanted}
            if folder.name == "certificate":
                first = next(iter(found))
                found[first] = change(found[first])
            return found

        monkeypatch.setattr(certified, "some_images", lambda *_: tmp_path)
        monkeypatch.setattr(certified, "plan_of", lambda *_: None)
        monkeypatch.setattr(certified, "with_bits", lambda _: bits)
        monkeypatch.setattr(certified.defects, "run", run)
        monkeypatch.setattr(certified, "DOCS", tmp_path / "docs" / "certified-defects.md")
        console = Console(record=True, width=200, file=io.StringIO())
        code = certified.main(tmp_path, tmp_path / "out", only, each, console)
        return code, console.export_text(), (tmp_path / "out" / "certified-defects.md").read_text()
    return main


def test_the_same_places(main, tmp_path):
    code, said, page = main()
    all_of_them = len([one for one in catalogue().everywhere() if one.base == OURS])
    assert code == 0
    assert f"{all_of_them} of {all_of_them} at the same place; 5 of 5 arrays" in said
    assert page.count("| yes |") == all_of_them and "no**" not in page
    assert (tmp_path / "docs" / "certified-defects.md").read_text() == page


@pytest.mark.parametrize("change", [
    lambda result: replace(result, place="a/b/d"), lambda result: replace(result, stage=""),
    lambda result: replace(result, margin=3.0), lambda result: replace(result, blame="runtime")])
def test_another_place_is_named(main, change):
    code, said, page = main(change)
    assert code == 1 and "with CNTK optimizer: a/b/c, with certificates" in said
    assert page.count("**no**") == 1


def test_an_array_without_cntks_bits_fails(main):
    assert main(bits=(4, 5))[0] == 1


@pytest.mark.parametrize("part", [{"only": (certified.chosen((), 1)[0].name,)}, {"each": 1}])
def test_a_part_of_the_list_is_no_page_of_the_docs(main, tmp_path, part):
    code, said, _ = main(**part)
    assert code == 0 and "at the same place" in said
    assert not (tmp_path / "docs").exists()


def test_so_many_of_each_kind():
    ones, twos = (certified.chosen((), each) for each in (1, 2))
    assert len({one.kind for one in ones}) == len(ones) == len(catalogue().kinds)
    assert len(twos) == 2 * len(ones)
