"""A board's cache of one RSK: what it decapsulates, and that damage, power cuts and foreign keys are noticed."""

import os

from vector_files import part, unhex
from vmtest import raises, req

from device_agent.val_client import key_cache
from mikey_sakke import sakke
from mikey_sakke.curve import run
from mikey_sakke.integers import to_octets
from mikey_sakke.pairing import functions
from mikey_sakke.sakke import CURVE

FOLDER = "build/val-cache-%d-" % id(object())
if "build" not in os.listdir():
    os.mkdir("build")


def exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def rfc_6508():
    """(identifier, Z, RSK, Encapsulated Data, SSV) of the RFC's example."""
    given, expected = part("rfc6508", "inputs"), part("rfc6508", "expected")
    return (
        unhex(given["b"]),
        unhex(expected["Z"]),
        unhex(expected["rsk"]),
        unhex(expected["encapsulated"]),
        unhex(given["ssv"]),
    )


def decapsulated(path, identifier, z, rsk, data):
    cache = key_cache.KeyCache(path, identifier, z, rsk)
    try:
        return sakke.DecryptionKey(cache, identifier, rsk, lambda point: cache).decapsulate(data)
    finally:
        cache.close()


def change_octet(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        octet = file.read(1)[0]
        file.seek(place)
        file.write(bytes([octet ^ 1]))


@req("SEAL-GMK-28")
def test_cache_decapsulates_and_every_damage_is_found():
    identifier, z, rsk, data, ssv = rfc_6508()
    path = FOLDER + "rfc"
    last = 0
    for percent in key_cache.build_steps(path, identifier, z, rsk):
        assert last <= percent <= 100
        last = percent
    try:
        assert decapsulated(path, identifier, z, rsk, data) == ssv
        with raises(sakke.NotDecapsulated):
            decapsulated(path, identifier, z, rsk, data[:-1] + bytes([data[-1] ^ 1]))
        with raises(key_cache.Damaged):
            decapsulated(path, b"somebody else", z, rsk, data)
        for place in (3, 10, 100000, os.stat(path)[6] - 1):  # magic, fingerprint, a function, its last octet
            change_octet(path, place)
            with raises(key_cache.Damaged):
                decapsulated(path, identifier, z, rsk, data)
            change_octet(path, place)
        assert decapsulated(path, identifier, z, rsk, data) == ssv
    finally:
        key_cache.erase(path)
    assert not exists(path)
    with raises(OSError):
        decapsulated(path, identifier, z, rsk, data)


@req("CPNS-GKM-77", "SEC-29")
def test_what_comes_from_the_rsk_is_not_in_the_file_in_the_clear():
    identifier, z, rsk, _, _ = rfc_6508()
    path = FOLDER + "clear"
    run(key_cache.build_steps(path, identifier, z, rsk))
    with open(path, "rb") as file:
        file.seek(key_cache._FUNCTIONS_AT)
        octets = file.read(4096)
    key_cache.erase(path)
    secrets = []
    for function in functions(CURVE, CURVE.decode(rsk)):
        if function is not None:
            secrets.extend(c for part in function for c in part)
            if len(secrets) > 8:
                break
    # a coefficient 1 may be that of every key
    assert not [c for c in secrets if to_octets(c, 128)[:32] in octets and c > 1 << 900]


def test_power_cut_while_the_cache_is_made_leaves_the_old_one_or_none():
    identifier, z, rsk, data, ssv = rfc_6508()
    path = FOLDER + "cut"
    with open(path, "wb") as file:
        file.write(b"the old one")
    for yields in (1, 60, 500):
        steps = key_cache.build_steps(path, identifier, z, rsk)
        for _ in range(yields):
            next(steps)
        del steps
        with open(path, "rb") as file:
            assert file.read() == b"the old one"
    run(key_cache.build_steps(path, identifier, z, rsk))  # over what the cut left behind
    assert not exists(path + "~")
    assert decapsulated(path, identifier, z, rsk, data) == ssv
    key_cache.erase(path)


@req("SEAL-GMK-28")
def test_key_of_somebody_else_never_becomes_a_cache():
    _, z, rsk, _, _ = rfc_6508()
    path = FOLDER + "foreign"
    with raises(sakke.BadKey):
        run(key_cache.build_steps(path, b"somebody else", z, rsk))
    assert not exists(path)
    key_cache.erase(path)
