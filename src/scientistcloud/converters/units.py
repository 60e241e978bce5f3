"""Units as people and CF spell them, and as OME-NGFF's own list has them."""

from __future__ import annotations

_PREFIXES = {
    "y": "yocto", "z": "zepto", "a": "atto", "f": "femto", "p": "pico", "n": "nano", "u": "micro", "m": "milli",
    "c": "centi", "d": "deci", "h": "hecto", "k": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta",
    "E": "exa", "Z": "zetta", "Y": "yotta",
}  # fmt: skip
_WORDS = {*_PREFIXES.values(), ""}

_LENGTHS = {
    "m": "meter", "metre": "meter", "metres": "meter", "meters": "meter", "micron": "micrometer",
    "microns": "micrometer", "å": "angstrom", "angstroms": "angstrom", "ångström": "angstrom",
    "ft": "foot", "feet": "foot", "in": "inch", "inches": "inch", '"': "inch", "mi": "mile", "miles": "mile",
    "yd": "yard", "yards": "yard", "pc": "parsec", "parsecs": "parsec",
}  # fmt: skip
_LENGTH_NAMES = {prefix + "meter" for prefix in _WORDS} | {"angstrom", "foot", "inch", "mile", "parsec", "yard"}

_TIMES = {
    "s": "second", "sec": "second", "secs": "second", "seconds": "second", "min": "minute", "mins": "minute",
    "minutes": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "hours": "hour", "d": "day", "days": "day",
    "msec": "millisecond", "usec": "microsecond",
}  # fmt: skip
_TIME_NAMES = {prefix + "second" for prefix in _WORDS} | {"minute", "hour", "day"}


def ome_length(unit: str | None) -> str | None:
    """`unit` in OME-NGFF's list of lengths ("um" is "micrometer"); None for what is not a length."""
    return _ome(unit, names=_LENGTH_NAMES, spellings=_LENGTHS, symbol="m", word="meter")


def ome_time(unit: str | None) -> str | None:
    """`unit` in OME-NGFF's list of times ("hours since 1900-01-01" is "hour"); None for what is not a time."""
    if unit is None:
        return None
    return _ome(unit.split(" since ", 1)[0], names=_TIME_NAMES, spellings=_TIMES, symbol="s", word="second")


def _ome(unit: str | None, *, names: set[str], spellings: dict[str, str], symbol: str, word: str) -> str | None:
    if unit is None:
        return None
    # µ has two code points, and ImageJ writes a third spelling.
    text = unit.strip().replace("\\u00B5", "u").replace("\u00b5", "u").replace("\u03bc", "u").rstrip(".\0")
    lower = text.lower()
    if lower.endswith(("metre", "metres", "meters", "seconds")):
        lower = lower.replace("metres", "meter").replace("metre", "meter").removesuffix("s")
    if lower in names:
        return lower
    if lower in spellings:
        return spellings[lower]
    if len(text) == 2 and text[1] == symbol and text[0] in _PREFIXES:  # prefixes differ by case: mm, Mm
        return _PREFIXES[text[0]] + word
    return None
