"""Counts of atoms as the command line takes them: Li:2, Zr:Ta:2, 3:7."""


def vacancies(words: list[str] | None) -> dict[str, int]:
    """{"Li": 2} from Li:2."""
    found = {}
    for word in words or []:
        element, *number = word.split(":")
        if len(number) != 1:
            raise ValueError(f"`--vacancy` is {word}; write an element and a number, such as Li:2")
        if element in found:
            raise ValueError(f"`--vacancy` names {element} twice; give the sum")
        found[element] = _whole(number[0], "vacancy", word)
    return found


def replacements(words: list[str] | None) -> dict[tuple[str, str], int]:
    """{("Zr", "Ta"): 2} from Zr:Ta:2."""
    found = {}
    for word in words or []:
        parts = word.split(":")
        if len(parts) != 3:
            raise ValueError(f"`--replace` is {word}; write two elements and a number, such as Zr:Ta:2")
        if (parts[0], parts[1]) in found:
            raise ValueError(f"`--replace` names {parts[0]}:{parts[1]} twice; give the sum")
        found[parts[0], parts[1]] = _whole(parts[2], "replace", word)
    return found


def _whole(word: str, option: str, whole: str) -> int:
    number = number_in(word, option, whole)
    if number != int(number):
        raise ValueError(f"`--{option}` is {whole}, where {word} is not a whole number")
    return int(number)


def number_in(word: str, option: str, whole: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"`--{option}` is {whole}, where {word!r} is not a number") from None
