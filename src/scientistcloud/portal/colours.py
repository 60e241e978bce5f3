"""Colour maps: one table for the viewer's shaders and for the swatches on the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColourMap:
    """Colours that stand at equal distances from the lowest value to the highest; between them, a straight line."""

    name: str
    label: str
    #: RRGGBB.
    stops: tuple[str, ...]

    @property
    def glsl(self) -> str:
        """The map as a function of GLSL: ``vec3 colours(float t)``, t from 0 to 1."""
        last = len(self.stops) - 1
        steps = "".join(
            f" c = mix(c, {_vec3(stop)}, clamp(t - {index}.0, 0.0, 1.0));"
            for index, stop in enumerate(self.stops[1:])
        )
        return f"vec3 colours(float t) {{ t *= {last}.0; vec3 c = {_vec3(self.stops[0])};{steps} return c; }}"


def _vec3(stop: str) -> str:
    return "vec3({:.4f}, {:.4f}, {:.4f})".format(*(int(stop[at : at + 2], 16) / 255 for at in (0, 2, 4)))


def _map(name: str, label: str, stops: str) -> ColourMap:
    return ColourMap(name, label, tuple(stops.split()))


#: viridis, magma, cividis and coolwarm as matplotlib has them (CC0), turbo as its author gave it (Apache-2.0).
COLOUR_MAPS = {
    each.name: each
    for each in (
        _map("gray", "Gray", "000000 ffffff"),
        _map("viridis", "Viridis", "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"),
        _map("magma", "Magma", "000004 1d1147 51127c 822681 b73779 e65164 fb8861 fec287 fcfdbf"),
        _map("cividis", "Cividis", "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"),
        _map("turbo", "Turbo", "30123b 4662d8 36aaf9 1ae4b6 72fe5e c8ef34 faba39 f66b19 ca2a04 7a0403"),
        _map("coolwarm", "Cool to warm", "3b4cc0 6788ee 9abbff c9d7f0 edd1c2 f7a889 e26952 b40426"),
    )
}


def one_colour(color: str) -> ColourMap:
    """From black to `color` (RRGGBB): how one channel of several is shown."""
    return ColourMap("colour", color, ("000000", color))
