"""The key store under power cuts at every single write, with torn and lost writes."""

from vmtest import raises, req

from device_agent.key_store import KeyStore


class PowerCut(Exception):
    pass


class DyingStorage:
    """A Storage that dies at its n-th writing operation.

    `how`: the interrupted write is absent, torn or whole; `uncommitted`: earlier uncommitted writes are kept or lost.
    """

    def __init__(self, medium, dies_at, how, uncommitted):
        self.medium = medium
        self._dies_at = dies_at
        self._how = how
        self._keep = uncommitted == "kept"
        self._now = dict(medium)
        self.operations = 0

    def get(self, name):
        return self._now.get(name)

    def _step(self, change):
        self.operations += 1
        if self.operations == self._dies_at:
            if self._keep:
                self._settle()
            if self._how == "whole":
                change()
                self._settle()
            elif self._how == "torn" and self._torn is not None:
                name, octets = self._torn
                self.medium[name] = octets[: len(octets) // 2] + bytes(3)
            raise PowerCut
        change()

    def _settle(self):
        self.medium.clear()
        self.medium.update(self._now)

    def set(self, name, octets):
        assert len(name) <= 15
        self._torn = (name, octets)

        def change():
            self._now[name] = bytes(octets)

        self._step(change)

    def delete(self, name):
        self._torn = None
        self._step(lambda: self._now.pop(name, None))

    def commit(self):
        self._torn = None
        self._step(self._settle)


def _cuts(scenario, before):
    """Yield the medium after a cut at each operation of `scenario(store)`, until one run needs no cut any more."""
    for how in ("absent", "torn", "whole"):
        for uncommitted in ("kept", "lost"):
            n = 0
            while True:
                n += 1
                medium = dict(before)
                try:
                    scenario(KeyStore(DyingStorage(medium, n, how, uncommitted)))
                except PowerCut:
                    yield medium
                    continue
                assert n > 1
                break


def _store(medium):
    return KeyStore(DyingStorage(medium, 0, "absent", "kept"))


def _medium(name, octets):
    medium = {}
    _store(medium).save(name, octets)
    return medium


@req("CPNS-GKM-77")
def test_what_was_saved_is_loaded():
    medium = {}
    _store(medium).save("prov", b"identity")
    assert _store(medium).load("prov") == b"identity"
    assert _store(medium).load("other") is None


@req("SEC-22")
def test_a_cut_at_any_write_leaves_the_old_or_the_new_state():
    before = _medium("sess", b"old")
    seen = set()
    for medium in _cuts(lambda store: store.save("sess", b"new"), before):
        state = _store(medium).load("sess")
        assert state in (b"old", b"new")
        assert _store(medium).load("sess") == state  # and it stays that one
        seen.add(state)
    assert seen == {b"old", b"new"}


@req("SEC-04")
def test_a_cut_at_the_first_write_ever_is_nothing_or_the_whole():
    for medium in _cuts(lambda store: store.save("g", b"first"), {}):
        assert _store(medium).load("g") in (None, b"first")


@req("SEC-22")
def test_a_returned_save_holds_in_both_copies():
    medium = _medium("sess", b"old")
    _store(medium).save("sess", b"new")
    for damaged in ("sess0", "sess1"):
        one_left = dict(medium)
        one_left[damaged] = b"\xff" * len(one_left[damaged])
        assert _store(one_left).load("sess") == b"new"


@req("SEC-22")
def test_one_damaged_copy_is_repaired_even_if_the_power_fails_meanwhile():
    whole = _medium("sess", b"state")
    for damaged in ("sess0", "sess1"):
        before = dict(whole)
        before[damaged] = before[damaged][:-1] + b"?"
        for medium in _cuts(lambda store: store.load("sess"), before):
            assert _store(medium).load("sess") == b"state"
        store = _store(before)
        assert store.load("sess") == b"state"
        assert store.repaired == 1
        assert before == whole


@req("SEC-22")
def test_a_save_over_one_damaged_copy_survives_a_cut():
    for damaged in ("sess0", "sess1"):
        before = _medium("sess", b"old")
        before[damaged] = b""
        for medium in _cuts(lambda store: store.save("sess", b"new"), before):
            assert _store(medium).load("sess") in (b"old", b"new")


@req("SEC-04")
def test_both_copies_unreadable_is_lost_and_not_a_first_version():
    medium = _medium("g", b"floor 7")
    for key in medium:
        medium[key] = medium[key][:-1] + b"?"
    assert _store(medium).load("g") is None


def test_a_copy_under_another_name_is_no_copy():
    medium = _medium("g", b"floor 7")
    medium["h0"], medium["h1"] = medium["g0"], medium["g1"]
    medium["g0"], medium["g1"] = medium["g1"], medium["g0"]
    assert _store(medium).load("h") is None
    assert _store(medium).load("g") is None


def test_equal_octets_cost_no_write():
    medium = _medium("g", b"state")
    storage = DyingStorage(medium, 0, "absent", "kept")
    KeyStore(storage).save("g", b"state")
    assert storage.operations == 0


def test_a_cut_while_erasing_leaves_the_old_state_or_none():
    before = _medium("g", b"a group key")
    for medium in _cuts(lambda store: store.erase("g"), before):
        assert _store(medium).load("g") in (None, b"a group key")


def test_what_is_too_long_for_a_storage_is_refused_before_anything_is_written():
    medium = _medium("g", b"old")
    with raises(OSError):
        _store(medium).save("g", bytes(1973))
    assert _store(medium).load("g") == b"old"
    _store(medium).save("g", bytes(1972))
    assert max([len(octets) for octets in medium.values()]) == 1984


def test_a_failing_medium_is_reported():
    class Broken(DyingStorage):
        def set(self, name, octets):
            raise OSError(28)

    with raises(OSError):
        KeyStore(Broken({}, 0, "absent", "kept")).save("g", b"state")
