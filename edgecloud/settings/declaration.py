"""How an option is declared: a field of a frozen dataclass, made by :func:`setting`. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from edgecloud.contracts.ranges import Range, ValueType
from edgecloud.registry import Registry

__all__ = ["MODES", "Group", "Mode", "Option", "options_of", "setting", "subject"]

Group = Literal["what", "how", "where", "run"]
"""``what`` is decoded, ``how`` it is decoded, ``where`` it runs (these three make up a run's identity), or
``run``: how this run is carried out, which changes no result."""

Mode = Literal["edge", "cloud", "spec"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""The experiments: what a setting is used by unless its declaration says less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting, read from its declaration. ``kind`` is the type of its value.

    ``choices`` may be a registry: it is read whenever a value is checked, so that what plug-ins bring is a
    choice, too. ``modes`` and ``used_by`` say where the setting counts; ``used_by`` names parts of the
    registry that the setting ``chosen_by`` chooses from, and is empty where all of them use the setting.
    """

    name: str
    subject: str
    field: str
    kind: type[bool] | type[int] | type[float] | type[str]
    nullable: bool
    default: Any
    help: str
    chinese: str
    group: Group
    modes: tuple[Mode, ...]
    choices: Collection[str]
    minimum: float | None
    maximum: float | None
    check: Callable[[str], object] | None
    used_by: tuple[str, ...]
    chosen_by: str | None

    @property
    def flags(self) -> tuple[str, ...]:
        """``--two-words`` and ``--two_words``; one flag where they are the same."""
        dashed = "--" + self.name.replace("_", "-")
        return tuple(dict.fromkeys((dashed, "--" + self.name)))

    def value_in(self, settings: Mapping[str, Any]) -> Any:
        """The option's value in ``settings`` by name: one that is missing is the default, as in the files of
        versions that did not have the option yet."""
        return settings.get(self.name, self.default)

    def value_of(self, config: Any) -> Any:
        """The option's value in a :class:`~edgecloud.settings.config.Config`."""
        return getattr(getattr(config, self.subject), self.field)

    def convert(self, value: Any) -> Any:
        """``value`` as the option's type, in its range. Text is read as the type; booleans are no numbers.

        Raises:
            ValueError: says what was expected.
        """
        if value is None or (self.nullable and value == "null"):
            if self.nullable:
                return None
            raise ValueError("needs a value")
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{value!r} is not true or false")
            return value
        return self._text(value) if self.kind is str else self._number(value)

    def _text(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{value!r} is not text")
        text = str(value)
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(self.choices)}{self._elsewhere()}")
        if not text:
            raise ValueError("must not be empty")
        if self.check is not None:
            self.check(text)
        return text

    def _number(self, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"{value!r} is not a number")
        try:
            result: Any = self.kind(value)
        except (OverflowError, TypeError, ValueError):
            expected = "whole number" if self.kind is int else "number"
            raise ValueError(f"{value!r} is not a {expected}") from None
        if self.kind is int and isinstance(value, float) and value != result:
            raise ValueError(f"{value!r} is not a whole number")
        Range(self.minimum, self.maximum).check(result)
        return result

    def _elsewhere(self) -> str:
        """Where a part may be that is not registered here: with a plug-in that is broken, or is none here."""
        if not isinstance(self.choices, Registry):
            return ""
        return self.choices.elsewhere()


def setting(
    default: Any,
    help: str,  # noqa: A002 - as argparse and pytest call it
    *,
    option: str | None = None,
    choices: Collection[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    check: Callable[[str], object] | None = None,
    used_by: tuple[str, ...] = (),
    chinese: str = "",
) -> Any:
    """Declare an option: a field of its subject's dataclass. Its type, whether it may be null, the choices of a
    ``Literal`` and the range of a type of :mod:`edgecloud.contracts.ranges` are read from the annotation.

    ``help`` and ``chinese`` say what it means in a line; ``option`` is its name in flags, files and results
    where the field's is shorter; ``choices`` a registry; ``check`` raises ValueError for text of a wrong form;
    ``used_by`` names those of the registered parts, chosen by another option of the subject, that use it.
    """
    declared = {
        "name": option,
        "help": help,
        "chinese": chinese,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "check": check,
        "used_by": used_by,
    }
    return field(default=default, metadata=declared)


def subject(declared: type[Any], group: Group, *, modes: tuple[Mode, ...] = MODES) -> Any:
    """Declare a subject: a field of the configuration, with the dataclass of its options, their group and the
    modes that use them."""
    return field(default_factory=declared, metadata={"group": group, "modes": modes})


def options_of(configuration: type[Any]) -> tuple[Option, ...]:
    """The options that a configuration's subjects declare, in order."""
    found: list[Option] = []
    for each in fields(configuration):
        if "group" in each.metadata:
            found += _options(each.name, each.default_factory, **each.metadata)
    return tuple(found)


def _options(name: str, declared: Any, *, group: Group, modes: tuple[Mode, ...]) -> list[Option]:
    """The options of one subject."""
    hints = get_type_hints(declared, include_extras=True)
    found = [(each, dict(each.metadata)) for each in fields(declared)]
    for each, about in found:
        about["name"] = about["name"] or each.name
    chosen_by = next((a["name"] for _, a in found if isinstance(a["choices"], Registry)), None)
    return [
        Option(
            **{**about, **_typed(hints[each.name], about)},
            subject=name,
            field=each.name,
            default=each.default,
            group=group,
            modes=modes,
            chosen_by=chosen_by,
        )
        for each, about in found
    ]


def _typed(hint: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """Type, nullability, choices and range: of the annotation, where the declaration does not say them itself."""
    found = ValueType.of(hint)
    bounds = {"minimum": found.range.minimum, "maximum": found.range.maximum}
    return {
        "kind": found.kind,
        "nullable": found.nullable,
        "choices": found.choices or about["choices"],
        **{name: end if about[name] is None else about[name] for name, end in bounds.items()},
    }
