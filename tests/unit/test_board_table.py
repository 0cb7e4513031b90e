"""The table of boards that are provisioned one after another."""

import pytest

from keycast.board import board_table
from keycast.board.board_table import Row
from keycast.board.faults import ProvisioningFault


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
    ],
)
def test_a_table_that_is_none_is_a_sentence_with_the_line(tmp_path, text, words):
    with pytest.raises(ProvisioningFault, match=words):
        read(tmp_path, text)
