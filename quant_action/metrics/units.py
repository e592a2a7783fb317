"""How the numbers of metrics are written for people."""

from __future__ import annotations

PREFIXES = ("", "k", "M", "G", "T")


def spell(value: float, unit: str, *, digits: int = 3) -> str:
    """A value with its unit (`Metric.unit` or `Difference.unit`): `×1.083`, `−0.68 pp`, `93.10%`, `5.1 GB`, `0.0311 nat`.

    `digits` is the number of places after the point of a ratio, one more than those of a percentage, and one less than the significant
    digits of anything else. Bytes are decimal, as in the spec.
    """
    text = spell_bare(value, unit, digits=digits)
    match unit:
        case "x":
            return f"×{text}"
        case "B" | "":
            return text
        case "%":
            return f"{text}%"
        case _:
            return f"{text} {unit}"


def spell_bare(value: float, unit: str, *, digits: int = 3) -> str:
    """The same without the unit, for the second number of a sentence; bytes keep theirs."""
    match unit:
        case "x":
            return f"{value:.{digits}f}" if value < 1e6 else f"{value:.{digits}g}"
        case "pp":
            return f"{100 * value:+.{digits - 1}f}".replace("-", "−")
        case "%":
            return f"{100 * value:.{digits - 1}f}"
        case "B":
            power = 0
            while abs(value) >= 1000 and power < len(PREFIXES) - 1:
                value, power = value / 1000, power + 1
            return f"{value:.{digits + 1}g} {PREFIXES[power]}B"
        case _:
            return f"{value:.{digits + 1}g}"
