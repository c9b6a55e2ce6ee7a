"""How numbers, lengths of time and moments are written: the same everywhere on the page."""

import math
from datetime import datetime, timezone

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TIMES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def number(value: float, digits: int = 4) -> str:
    """Return a value with so many significant digits: ``0.4123``, ``12,345``, ``2 × 10⁻⁵``.

    A value that fewer digits give exactly, such as a setting, has no zeros at its end.
    """
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}".replace("-", "−")
    exponent = math.floor(math.log10(abs(value)))
    if -3 <= exponent < 7:
        # Rounding may carry to the next power of ten, which '.4g' sees.
        places = max(0, digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits}g}")))))
        text = f"{value:,.{places}f}"
        if "." in text and float(f"{value:.{digits}g}") == value:
            text = text.rstrip("0").rstrip(".")
        return text.replace("-", "−")
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPTS)}".replace("-", "−")


def tick(value: float) -> str:
    """Return a short label of an axis: ``0.25``, ``40k``, ``10⁻³``."""
    if value == 0:
        return "0"
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{value / scale:.4g}{unit}".replace("-", "−")
    if size >= 1e-3:
        return f"{value:.4g}".replace("-", "−")
    mantissa, _, power = f"{value:.2e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(power)).translate(_SUPERSCRIPTS)}"
    return (power if mantissa == "1" else f"{mantissa}·{power}").replace("-", "−")


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units: ``2 h 5 min``, ``48 s``."""
    if not math.isfinite(seconds):
        return "unknown"
    left = round(max(0.0, seconds))
    if left < 1:
        return "under 1 s"
    words: list[str] = []
    for name, size in _TIMES:
        count, rest = divmod(left, size)
        if count or words:
            if count:
                words.append(f"{count} {name}")
            elif len(words) == 1:
                break
        left = rest
        if len(words) == 2:
            break
    return " ".join(words)


def moment(text: str | None) -> datetime | None:
    """Return the moment of an ISO text (without zone: as if in UTC), None if it is no such text."""
    try:
        # Python 3.10 does not read the 'Z' that stands for UTC.
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def clock(when: datetime) -> str:
    """Return ``23 Nov 2026, 14:05 UTC``; the month's name is English whatever the locale."""
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * when.month - 3 : 3 * when.month]
    zone = when.strftime("%z")
    offset = "UTC" if zone in ("+0000", "") else f"UTC{zone[:3]}:{zone[3:5]}"
    return f"{when.day} {month} {when.year}, {when:%H:%M} {offset}"


def megabytes(size: int) -> str:
    """Return a size as ``1.2 MB`` or ``340 kB``."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{math.ceil(size / 1e3)} kB"
