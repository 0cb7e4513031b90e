# ruff: noqa: F821
# pyright: reportUndefinedVariable=false
# A board with before_agent, device_agent.val_client.service: all files of a board, and what these
# import. Written by `make manifest`.

include("manifest.py")
module("before_agent.py", opt=2)
package(
    "mikey_sakke",
    (
        "__init__.py",
        "curve.py",
        "eccsi.py",
        "endpoint_key.py",
        "errors.py",
        "gcm.py",
        "gcm_portable.py",
        "hashing.py",
        "i_message.py",
        "identifiers.py",
        "integers.py",
        "kdf.py",
        "key_parameters.py",
        "message.py",
        "pairing.py",
        "power.py",
        "sakke.py",
    ),
    base_path="..",
    opt=2,
)
package(
    "device_agent",
    (
        "val_client/__init__.py",
        "val_client/client.py",
        "val_client/key_cache.py",
        "val_client/records.py",
        "val_client/service.py",
        "val_client/whole_heap.py",
    ),
    base_path="..",
    opt=2,
)
