"""Which versions of the CNI spec we speak, and what each allows."""

from __future__ import annotations

from cni.protocol.errors import DecodingFailure, IncompatibleVersion

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = SUPPORTED[-1]
UNSTATED = "0.1.0"  # what a configuration without cniVersion speaks

SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}

# Results and prevResults have one of three shapes; a shape is named after its first version.
_SHAPES = {
    "0.1.0": "0.2.0",
    "0.2.0": "0.2.0",
    "0.3.0": "0.3.0",
    "0.3.1": "0.3.0",
    "0.4.0": "0.3.0",
    "1.0.0": "1.0.0",
    "1.1.0": "1.0.0",
}


def parse(version: str) -> tuple[int, ...]:
    """Return the numbers of a dotted version, compared as the spec compares them.

    Raises:
        ValueError: it is not one to three dotted numbers.
    """
    parts = version.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f'"{version}" is not a version')
    return tuple(int(part[:9]) for part in parts) + (0,) * (3 - len(parts))


def answer() -> bytes:
    """Return what VERSION prints, whatever is on stdin: one compact line."""
    # By hand: versions need no escaping, and json is a seventh of VERSION's time.
    supported = ",".join(f'"{version}"' for version in SUPPORTED)
    return f'{{"cniVersion":"{NEWEST}","supportedVersions":[{supported}]}}\n'.encode()


def at_least(version: str, minimum: str) -> bool:
    return parse(version) >= parse(minimum)


def shape(version: str) -> str:
    """Return the result shape of a supported version: `0.2.0`, `0.3.0` or `1.0.0`."""
    return _SHAPES[version]


def check(version: str, verb: str) -> None:
    """Refuse a configuration's version that we do not speak or that does not know `verb`.

    Raises:
        IncompatibleVersion: code 1, both sides named.
        DecodingFailure: code 6, `verb` is bound to a version and this one cannot be compared;
            Go's skel answers the same.
    """
    since = SINCE.get(verb)
    if since:
        try:
            knows_verb = at_least(version, since)
        except ValueError as error:
            raise DecodingFailure(
                f'cniVersion "{version}" is not a version',
                why=f"{verb} exists since {since}, so the version must be comparable.",
                fix=f'Set "cniVersion" to one of {", ".join(SUPPORTED)}.',
            ) from error
        if not knows_verb:
            raise IncompatibleVersion(
                f"config version does not allow {verb}",
                why=f'The configuration says "{version}"; {verb} exists since {since}.',
                fix=f'Set "cniVersion" to "{since}" or newer to use it.',
            )
    if version not in SUPPORTED:
        raise IncompatibleVersion(
            f'incompatible CNI versions: the configuration has "{version}"',
            why=f"This plugin speaks {', '.join(SUPPORTED)}.",
            fix='Set "cniVersion" to one of them.',
        )
