"""docs/house.svg shows the rooms and arrows as the code has them now."""

import pytest

from tools import PROJECT, house_picture

HOUSE = {"ground": set(), "cellar": set(), "hall": {"ground"}, "roof": {"hall", "ground", "cellar"}}


@pytest.fixture(scope="module")
def arrows():
    return house_picture.arrows()


def test_the_picture_is_as_the_code_is(arrows):
    assert house_picture.PICTURE.read_text() == house_picture.picture(arrows), "run `python -m tools.house_picture`"


def test_the_picture_shows_every_room_of_the_product(arrows):
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert set(arrows) == packages - {"tools", "tests"} | {"micropython"}


def test_a_room_stands_above_all_that_it_imports():
    assert house_picture.floors(HOUSE) == [["ground", "cellar"], ["hall"], ["roof"]]


def test_a_circle_is_an_error_that_names_its_rooms():
    with pytest.raises(ValueError, match="hall, stairs"):
        house_picture.floors({"ground": set(), "hall": {"stairs"}, "stairs": {"hall", "ground"}})


def test_an_arrow_that_follows_from_others_is_left_out():
    assert house_picture.direct(HOUSE)["roof"] == {"hall", "cellar"}
