"""The table of boards that are provisioned one after another."""

import pytest
import typer

from keycast.board import board_table
from keycast.board.board_table import Row
from keycast.board.faults import ProvisioningFault
from keycast.commands.board.wifi_option import wifi_of


def read(folder, text):
    path = folder / "boards.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return board_table.read(path)


def test_boards_by_port_or_by_serial_number_with_or_without_a_group(tmp_path):
    rows = read(tmp_path, "name,port,group\nlamp.porch,/dev/ttyUSB0,home/lights\nlamp.hall,porch,\n")
    assert rows == [Row("lamp.porch", "/dev/ttyUSB0", "home/lights"), Row("lamp.hall", "porch", None)]
    assert read(tmp_path, "\ufeffserial, name\r\n0001,lamp.porch\r\n") == [Row("lamp.porch", "0001", None)]
    assert read(tmp_path, "name,port,serial\nlamp,,0001\n") == [Row("lamp", "0001", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has the columns"),
        ("name\nlamp\n", "has the columns name"),
        ("name,port,colour\nlamp,a,red\n", "colour"),
        ("name,port\n", "names no board"),
        ("name,port\nlamp\n", "line 2"),
        ("name,port\nlamp,\n", "line 2"),
        ("name,port\nlamp,a\n,b\n", "line 3"),
        ("name,port\nlamp,a,b\n", "line 2"),
        ("name,port\nlamp,a\nlamp,b\n", "name 'lamp' twice"),
        ("name,port\nlamp,a\ndoor,a\n", "serial 'a' twice"),
        ('name,port\n"lamp,a\n', "no CSV"),
        (b"\xff\xfe\0", "no CSV"),
        (b"\xff\xfe", "no CSV"),
        (b"name,port\nla\0mp,a\n", "no CSV"),
        ("name,name,port\nlamp,door,a\n", "has the columns"),
        ("name,port,\x1b[2J\nlamp,a,\n", r"x1b\[2J"),
        ("name,port\nla\u202emp,a\n", "line 2: a name or port"),
        ("name,port\nlamp,\x1b[2J\n", "line 2: a name or port"),
        ("name,port\nlamp,/dev/ttyUSB0\ndoor,/dev/../dev/ttyUSB0\n", "ttyUSB0' twice"),
    ],
)
def test_a_table_that_is_none_is_a_sentence_with_the_line(tmp_path, text, words):
    with pytest.raises(ProvisioningFault, match=words) as refusal:
        read(tmp_path, text)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("of", ["zeros", "hole"])
def test_a_file_without_end_is_refused_soon(tmp_path, of):
    path = tmp_path / "boards.csv"
    if of == "zeros":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(10 << 30)
    with pytest.raises(ProvisioningFault, match="too large"):
        board_table.read(path)


@pytest.mark.parametrize("password", [b"\xff\xfe hidden words", b"\0" * 5000, b"x" * 5000, None])
def test_a_file_with_no_password_is_a_sentence_without_it(tmp_path, capsys, password):
    path = tmp_path / "password"
    if password is None:
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(password)
    with pytest.raises(typer.Exit):
        wifi_of("house", path)
    told = capsys.readouterr().err
    assert "password" in told and "hidden" not in told and len(told) < 500
