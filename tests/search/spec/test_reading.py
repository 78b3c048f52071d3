"""Texts, files and names that are no study file, and the one line for each."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_spec

from search.errors import SpecError
from search.spec import parse_spec, read_spec
from search.spec.values import study_name_of


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot read the study file .*none\.toml"):
        read_spec(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 200_000 + "]" * 200_000, "nested too deeply"),
        ("x = " + "{a=" * 5_000 + "1" + "}" * 5_000, "nested too deeply"),
        (".".join(["a"] * 20_000) + " = 1", "a key has at most 20 parts"),
        (".".join(['"a"'] * 20_000) + " = 1", "a key has at most 20 parts"),
        ("x = " + "a" * 1_000_000, "is not valid TOML"),
        ("[a.b.c.d.e.f.g.h.i.j]\nx.y.z.a.b.c.d.e.f.g = [[1]]", "20 deep within each other"),
        ("seed = 1" + "0" * 100_000, "has too many digits; shorten it"),
        ("seed = 0x1" + "0" * 12_000, "has too many digits; shorten it"),
        ("[fixed]\na = [0b1" + "0" * 60_000 + "]", "has too many digits; shorten it"),
        ('name = "a\udc80"', "it holds half of a surrogate pair; save it as UTF-8 text"),
        ("seed = 1979-05-27\n", "a value is no date"),
        ("[data]\nday = [2000-01-01]\n", "a value is no date"),
        ("# " + "x" * (1 << 20), "has at most 1,048,576 bytes"),
        ("seed = \x00", "is not valid TOML"),
        ('name = "a"\nproblem = "a:B"\nmetric = "a\\u0000b"', "metric must be 1 to 200 printable"),
    ],
)
def test_whatever_the_parser_meets_is_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse_spec(text, where="deep.toml")
    line = str(caught.value)
    assert line.startswith("deep.toml") and "\n" not in line and len(line) < 500


@given(st.text(max_size=200))
def test_no_text_raises_anything_but_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(text, where="any.toml")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", "a\ud800", "x" * 101, 3,
                                  "größe", "a b", "-x", "a.toml", "a\n", None])  # fmt: skip
def test_a_name_that_is_no_folder_is_refused(name: object) -> None:
    with pytest.raises(SpecError, match="name must be 1 to 100 letters") as caught:
        study_name_of(name, "study_name")
    assert len(str(caught.value)) < 400
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize("name", ["a", "cnn-2.1_x", "x" * 100, "2026"])
def test_a_name_that_is_a_folder_is_taken(name: str) -> None:
    assert study_name_of(name, "study_name") == name


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    link = tmp_path / "zero.toml"
    link.symlink_to("/dev/zero")
    with pytest.raises(SpecError, match="it must be a file of at most 1,048,576 bytes"):
        read_spec(link)
    os.mkfifo(tmp_path / "pipe.toml")  # that nobody writes to
    with pytest.raises(SpecError, match="it must be a file of at most 1,048,576 bytes"):
        read_spec(tmp_path / "pipe.toml")
    with pytest.raises(SpecError, match="Is a directory"):
        read_spec(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_study_file(tmp_path):
    path = tmp_path / "demo.toml"
    text = toy_spec()
    path.write_text(text, encoding="utf-8-sig")  # as Windows' editors write it
    assert read_spec(path).hash == parse_spec(text, where="demo").hash
