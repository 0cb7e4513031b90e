"""The releases of Debian that a guest can be made of, and what all of them have in it."""

from dataclasses import dataclass

from tools.radio_bench.errors import NoBench


@dataclass(frozen=True)
class Suite:
    """A release of Debian. `python` is the version of its Python, for which wheels are chosen."""

    name: str
    python: str


SUITES = {
    "bookworm": Suite("bookworm", "3.11"),  # Linux 6.1, BlueZ 5.66
    "trixie": Suite("trixie", "3.13"),  # Linux 6.12, BlueZ 5.82
}

PACKAGES = ("python3", "bluez", "dbus", "hostapd", "wpasupplicant", "iw", "iproute2", "kmod", "procps", "systemd")
KERNEL = "linux-image-amd64"  # the flavour for clouds has neither hci_vhci nor mac80211_hwsim

DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")
"""Modules of the kernel that the guest needs to find its disk, in the order in which they are loaded."""
MODULES: tuple[str, ...] = (*DISK_MODULES, "virtio_console", "virtio_rng", "hci_vhci", "bluetooth", "uhid")
MODULES += ("mac80211_hwsim", "af_packet", "ccm", "gcm", "cmac", "ecb", "ctr", "hmac", "ecdh_generic")
MODULES += ("algif_hash", "algif_skcipher")
CRYPTO = ("kernel/crypto", "kernel/lib/crypto", "kernel/arch/x86/crypto")
"""Folders of modules that the kernel loads by name while it runs, so that no list of dependencies has them."""


def suite(name: str) -> Suite:
    """Return the release with this name. Raises NoBench."""
    try:
        return SUITES[name]
    except KeyError:
        raise NoBench(f"There is no image {name!r}; there are {', '.join(SUITES)}.") from None
