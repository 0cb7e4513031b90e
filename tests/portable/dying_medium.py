"""A medium whose power fails at one of its writes."""


class PowerCut(Exception):
    pass


class Dying:
    """A Storage over the octets of another that dies at its n-th write: absent, torn or whole."""

    def __init__(self, octets, dies_at, how):
        self.octets = octets
        self._left = dies_at
        self._how = how

    def get(self, name):
        return self.octets.get(name)

    def set(self, name, octets):
        self._left -= 1
        if self._left or self._how == "whole":
            self.octets[name] = octets
        elif self._how == "torn":
            self.octets[name] = octets[: len(octets) * 2 // 3]
        if not self._left:
            raise PowerCut

    def delete(self, name):
        self._left -= 1
        if self._left or self._how == "whole":
            self.octets.pop(name, None)
        if not self._left:
            raise PowerCut

    def commit(self):
        pass


def states_after_cuts(before, act):
    """The World after a restart, for a cut at each write of `act`; at last one without a cut."""
    for how in ("absent", "torn", "whole"):
        dies_at = 0
        cut = True
        while cut:
            dies_at += 1
            world = before()
            octets = world.medium.octets
            cut = False
            try:
                world.medium = Dying(octets, dies_at, how)
                world.boot()
                act(world)
            except PowerCut:
                cut = True
            world.medium = Dying(octets, 0, how)
            world.boot()
            yield world
        assert dies_at > 3
