"""PluginConf: the keys that every plugin shares, and how a section of configuration is read.

A section is parsed once into a frozen model of what the administrator wrote. Go's zero values mean
absent, and a failure names every bad key with its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError, model_validator

from cni.protocol import gojson
from cni.protocol.addresses import Ip, Mac, UnicastMac
from cni.protocol.errors import CniError, Code

if TYPE_CHECKING:
    from cni.protocol.request import Network


def _absent_if(zero: object) -> BeforeValidator:
    return BeforeValidator(lambda value: None if type(value) is type(zero) and value == zero else value)


Text = Annotated[str | None, _absent_if("")]
Count = Annotated[int | None, Strict(), Field(ge=0, le=2**32 - 1), _absent_if(0)]
# bytes; under 68 no IPv4 packet fits, and the kernel refuses such a link
Mtu = Annotated[int | None, Strict(), Field(ge=68, le=65535), _absent_if(0)]
Flag = Annotated[bool, Strict()]
OptionalIp = Annotated[Ip | None, _absent_if("")]
AnyMac = Annotated[Mac | None, _absent_if("")]
OptionalMac = Annotated[UnicastMac | None, _absent_if("")]


def _in_words(value: Any) -> Any:
    """Read what versions of the spec before 1.0 have as a string."""
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


class Section(BaseModel):
    """A JSON object of the configuration, read as Go reads it.

    Keys match whatever their case, `null` is absent, unknown keys are ignored. `is_open` says that
    further keys are somebody else's, so that they are no mistake.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)
    is_open: ClassVar[bool] = False

    @classmethod
    @cache
    def spellings(cls) -> tuple[str, ...]:
        """The section's keys as they are written in JSON."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    @cache
    def known_keys(cls) -> Mapping[str, tuple[str, str]]:
        """Each key as it is written and as an attribute, by itself and by what Go takes for the same."""
        fields = [(field.alias or name, name) for name, field in cls.model_fields.items()]
        written = {key: (key, name) for key, name in fields}
        return {gojson.folded(key): names for key, names in written.items()} | written

    @model_validator(mode="before")
    @classmethod
    def _fold_keys(cls, data: Any) -> Any:
        return gojson.fold(data, cls.spellings()) if type(data) is dict else data


class Dns(Section):
    nameservers: tuple[str, ...] = ()
    domain: Text = None
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return self.model_dump(exclude_defaults=True, mode="json")


class IpamSection(Section):
    """What an interface plugin knows of `ipam`; the rest is the IPAM plugin's."""

    is_open = True
    type: Text = None


class PluginConf(Section):
    """The keys that every plugin shares. `reads_files` says that `parse` looks at more than it is given."""

    reads_files: ClassVar[bool] = False

    cni_version: Text = Field(default=None, alias="cniVersion")
    name: str
    type: Text = None
    capabilities: dict[str, Any] = {}
    disable_check: Annotated[bool, Strict(), BeforeValidator(_in_words)] = Field(
        default=False, alias="disableCheck"
    )
    ipam: IpamSection = IpamSection()
    dns: Dns = Dns()
    args: dict[str, Any] = {}
    runtime_config: dict[str, Any] = Field(default={}, alias="runtimeConfig")
    prev_result: dict[str, Any] | None = Field(default=None, alias="prevResult")

    @classmethod
    def of(cls, network: Network) -> Self:
        """Read a call's configuration; one of which nothing else is read is read once for equal calls.

        Raises:
            CniError: as `parse`.
        """
        if cls.reads_files:
            return cls.parse(network.raw)
        return network.memory.kept(cls, lambda: cls.parse(network.raw))

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read a configuration as a call does.

        Raises:
            CniError: code 7; every bad key is named with its path, as in `ipam.addresses[0].address`.
        """
        return cls.read(raw)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """Read a configuration without looking at this host; raises as `parse`."""
        return parse_section(cls, raw, "the network configuration")


S = TypeVar("S", bound=Section)


def parse_section(
    section: type[S],
    raw: Mapping[str, Any],
    what: str,
    *,
    under: str = "",
    code: int = Code.INVALID_NETWORK_CONFIG,
) -> S:
    """Read `raw` as a section, whose paths in errors begin with `under`.

    Raises:
        CniError: with `code`, naming every bad key.
    """
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        faults = {_path(fault["loc"], under): _sentence(fault) for fault in error.errors(include_url=False)}
        names = ", ".join(f'"{path}"' for path in list(faults)[:_MAX_FAULTS])
        raise CniError(
            f"{what} is not valid: {names}",
            why=" ".join(f"{path}: {text}." for path, text in list(faults.items())[:_MAX_FAULTS]),
            fix="Correct what gave it." if code == Code.DECODING_FAILURE else "Correct the configuration.",
            code=code,
            faults=faults,
        ) from error


_MAX_FAULTS = 10
# What JSON calls the types that pydantic names in Python's words.
_WANTED = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "int_type": "must be an integer",
    "model_type": "must be an object",
    "string_type": "must be a string",
    "tuple_type": "must be a list",
}


def _path(location: tuple[int | str, ...], under: str) -> str:
    path = under
    for part in location:
        # A tagged part, such as `function-plain[…]`, is pydantic's own name for a union's branch.
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("function-", "constrained-", "nullable", "lax-or-strict")):
            path += f".{part}" if path else part
    return path or "(top)"


def _sentence(fault: Any) -> str:
    """Turn pydantic's finding into a sentence with the value that was found."""
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return "is missing"
    wanted = _WANTED.get(fault["type"]) or str(fault["msg"]).replace("Input should be", "must be")
    return f"{wanted}, but it is {_shown(fault['input'])}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"an {gojson.type_name(value)}"
    if isinstance(value, str):
        return f'the string "{value[:80]}"'
    return f"the {gojson.type_name(value)} {str(value).lower()[:80]}"


def unknown_keys(section: Section, raw: Mapping[str, Any], under: str = "") -> dict[str, str]:
    """Return a sentence for the path of each key that no field reads, with the nearest known one."""
    sentences: dict[str, str] = {}
    known = section.known_keys()
    for key, value in raw.items():
        spelling, attribute = known.get(key) or known.get(gojson.folded(key), ("", ""))
        if not spelling:
            # "cni.dev/…" and the like: keys with a domain are for those who know them.
            if "/" not in key and not section.is_open:
                sentences[under + key] = _unknown(under + key, known)
            continue
        read = getattr(section, attribute)
        if isinstance(read, Section) and isinstance(value, dict):
            sentences |= unknown_keys(read, value, f"{under}{spelling}.")
        elif isinstance(read, tuple) and isinstance(value, list):
            for index, (item, raw_item) in enumerate(zip(read, value, strict=False)):
                if isinstance(item, Section) and isinstance(raw_item, dict):
                    sentences |= unknown_keys(item, raw_item, f"{under}{spelling}[{index}].")
    return sentences


def _unknown(path: str, known: Mapping[str, tuple[str, str]]) -> str:
    from difflib import get_close_matches  # 6 ms, and most configurations have no unknown key

    key = path.rpartition(".")[2]
    near = get_close_matches(key.casefold(), known, n=1, cutoff=0.7)
    hint = f'; did you mean "{known[near[0]][0]}"?' if near else ""
    return f'unknown key "{path}" is ignored{hint}'
