"""Text files of every kind that somebody may hand over: a value or one line, and always an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecloud.errors import ConfigError
from edgecloud.textfiles import (
    MAX_DEPTH,
    json_files,
    list_in_text,
    parse_json,
    parse_object,
    read_json,
    read_text,
    read_toml,
)


def put(folder: Path, content: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = put(tmp_path, b'\xef\xbb\xbf{"a": 1}')
    assert read_text(path, what="file", error=ConfigError) == '{"a": 1}'
    assert read_json(path, what="file", error=ConfigError) == {"a": 1}
    assert parse_json(path.read_bytes()) == parse_json('\ufeff{"a": 1}') == {"a": 1}
    assert parse_json('{"a": 1}'.encode("utf-16")) == {"a": 1}
    assert read_toml(put(tmp_path, b"\xef\xbb\xbfa = 1"), what="file", error=ConfigError)["a"] == 1


@pytest.mark.parametrize(
    "content, says",
    [
        ("{", "is not JSON: line 1, column 2"),
        ("", "is not JSON: line 1, column 1"),
        (b"[\xff]", "is not UTF-8 text (byte 1)"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        ("[" * 100_000, f"nested more than {MAX_DEPTH} deep"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep"),
        ('{"a":' * 900 + "1" + "}" * 900, f"nested more than {MAX_DEPTH} deep"),
        ("[" + "9" * 5000 + "]", "4300"),
        (r'["\ud83d"]', "half a character"),
    ],
)
def test_json_that_cannot_be_used_is_one_line_of_the_callers_error(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_json(put(tmp_path, content), what="file", error=ConfigError, advice="check it")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)


def test_as_deep_as_stated_is_read(tmp_path: Path) -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json(r'"\ud83d\ude00"') == "😀"


@pytest.mark.parametrize("text", ["[NaN]", "[1e999]", "[-Infinity]"])
def test_numbers_that_json_has_not_are_refused_where_asked(text: str) -> None:
    assert parse_json(text)
    with pytest.raises(ValueError, match=r"NaN|1e999|Infinity"):
        parse_json(text, finite=True)


@pytest.mark.parametrize(
    "content",
    [
        "a = " + "[" * 20_000,
        "a = [",
        "a = 1\na = 2",
        "a = 2001-99-99",
        b"a = '\xff'",
        ".".join(["a"] * 20_000) + " = 1",
        "[" + " . ".join(["a"] * 20_000) + "]",
        "a = {" + ".".join(["'b.c'", '"d"'] * 10_000) + " = 1}",
    ],
)
def test_toml_that_cannot_be_used_is_one_line(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_toml(put(tmp_path, content), what="grid", error=ConfigError)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_say_so_with_the_advice(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("a\0b")):
        with pytest.raises(ConfigError, match=r"file .*; check it"):
            read_text(path, what="file", error=ConfigError, advice="check it")


@pytest.mark.parametrize(
    "text, is_list",
    [
        ('["语气平静","声音低沉"]', True),
        (" ['calm', 'low'] ", True),
        ('["one"]', True),
        ("[]", True),
        ("[laughs] a calm voice [sighs]", False),
        ("[laughs]", False),
        ('[["a"],["b"]]', True),
        ("[1, 2]", True),
        ("[null]", True),
        ("[None]", True),
        ("('calm', 'low')", True),
        ('("calm",)', True),
        ("(calm, low)", False),
        ("('calm')", False),
        ("(1, 2)", False),
        ("()", False),
        ("[" * 5000 + "]" * 5000, False),
        ("语气平静", False),
    ],
)
def test_a_list_written_out_as_text_is_recognised(text: str, is_list: bool) -> None:
    assert list_in_text(text) is is_list


def test_macos_notes_on_files_are_none_of_a_folders(tmp_path: Path) -> None:
    for name in ("b.json", "._b.json", "a.json", "._.json", ".json", "c.txt", "_.json"):
        (tmp_path / name).write_bytes(b"{}")
    assert [path.name for path in json_files(tmp_path)] == [".json", "_.json", "a.json", "b.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "{}",
        ' {"a": [1], "rows": [] } ',
        '{"a": 1',
        '{"a": 1} x',
        '{"a": 1,}',
        '{"a" 1}',
        "{1: 2}",
        '{"rows": [1,]}',
        '{"rows": [1 2]}',
        '{"rows": [NaN]}',
        '{"rows": [1e999]}',
        '{"rows": [1' + "0" * 400 + ".0]}",
        '{"rows": ["\\ud800"]}',
        '{"rows": {"a": 1}}',
        '{"rows": [1, {"a": "ä"}], "a": 2}',
        '{"rows": ' + "[" * 300 + "]" * 300 + "}",
        '{"rows": ' + '["]",' * 300 + '"["' + "]" * 300 + "}",
        '{"rows": [' + '{"a": [1]},' * 300 + '"[["]}',
        '{"rows": [' + '["\\"", "["],' * 300 + "1]}",
        '{"rows": [1e308, 1E+308, 1e-999]}',
        '{"rows": [1E999]}',
        '{"rows": [1e+999]}',
        '{"rows": [' + "9" * 250 + "e99]}",
    ],
)
def test_rows_read_one_by_one_are_those_of_the_whole(text: str) -> None:
    def whole() -> object:
        return parse_json(text, finite=True)

    def in_turn() -> object:
        found, rows = parse_object(text, each="rows", take=lambda row: row)
        return {**found, "rows": rows} if rows else found

    told = []
    for read in (whole, in_turn):
        try:
            told.append(repr(read()))
        except ValueError as error:
            told.append(f"refused: {error}")
    assert told[0] == told[1]


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("filler", ["", '"]", ', '"\\"]", ', "[], " * 200])
def test_depth_is_told_with_many_and_few_brackets(depth: int, filler: str) -> None:
    text = "[" * depth + filler + "1" + "]" * depth
    if depth + ("[]" in filler) > MAX_DEPTH:
        with pytest.raises(ValueError, match="nested more than"):
            parse_json(text)
    else:
        parse_json(text)
