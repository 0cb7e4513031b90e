"""The label of a board: read by people and cameras, written for its owner only, and never over another file."""

import xml.etree.ElementTree as ET

import pytest

from cpns.errors import NotAllowed
from gateway_agent import pairing_secret
from keycast.board import label
from keycast.board.faults import ProvisioningFault

SECRET = "ABCDEFGHIJKLMNOP"


@pytest.mark.req("SEC-20")
@pytest.mark.parametrize("name", ["lamp.svg", "lamp.png"])
def test_a_label_is_private_and_new(tmp_path, name):
    path = tmp_path / name
    label.write(path, "lamp.porch", SECRET)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ProvisioningFault) as refusal:
        label.write(path, "lamp.porch", SECRET)
    assert SECRET not in str(refusal.value) and SECRET not in name


def test_a_picture_has_the_code_and_below_it_what_people_read(tmp_path):
    path = tmp_path / "lamp.svg"
    label.write(path, "a<b", SECRET)
    picture = ET.parse(path).getroot()
    assert [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")] == ["a<b", "ABCD-EFGH-IJKL-MNOP"]
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}path"))) >= 1
    label.write(tmp_path / "lamp.png", "a<b", SECRET)
    assert (tmp_path / "lamp.png").read_bytes().startswith(b"\x89PNG")


def test_the_text_of_the_code_is_what_keycast_board_pair_takes():
    shown = label.text("lamp.porch", SECRET)
    assert shown.endswith("lamp.porch\nABCD-EFGH-IJKL-MNOP") and "█" in shown
    assert pairing_secret.octets(pairing_secret.qr_text("lamp.porch", SECRET)) == pairing_secret.octets(SECRET)


@pytest.mark.parametrize("name", ["lamp.pdf", "lamp", "there.svg"])
def test_a_file_that_can_be_no_label_is_refused_before_anything_is_done(tmp_path, name):
    (tmp_path / "there.svg").write_text("of somebody else")
    with pytest.raises(ProvisioningFault):
        label.require_kind(tmp_path / name)
    assert (tmp_path / "there.svg").read_text() == "of somebody else"


@pytest.mark.parametrize(
    "typed", ["", "ABCD", "ÄBCD-EFGH-IJKL-MNOP", "\u0410BCD-EFGH-IJKL-MNOP", "\u202eABCDEFGHIJKLMNO", "1" * 16]
)
def test_what_is_no_secret_is_refused_by_a_sentence_that_does_not_repeat_it(typed):
    with pytest.raises(NotAllowed) as refusal:
        pairing_secret.octets(typed)
    assert str(refusal.value) == "a pairing secret is 16 characters of A-Z and 2-7"
