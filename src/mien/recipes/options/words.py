"""What ``${word}`` stands for in a recipe: its options, and what their chosen values bring."""

from collections.abc import Iterable, Mapping
from typing import Any

from mien.errors import DataError
from mien.recipes.options.network import bundle_words
from mien.recipes.tree import HELP, filled

__all__ = ["words_of"]


def words_of(content: Mapping[str, Any], asked: Iterable[str], where: str) -> dict[str, Any]:
    """Collect all words of a recipe.

    An option outweighs what a choice says of the same word only where it is asked for.

    Args:
        content: The recipe, options already changed.
        asked: Options, or dotted keys, that the user gave.
        where: Name of the recipe, for messages.

    Returns:
        What each word stands for.

    Raises:
        DataError: The value of an option is no choice, or a bundle that nothing can be trained
            from.
        BundleError: A bundle, or the weights behind it, is not on this machine.
    """
    options = content.get("options", {})
    words = {**options}
    chosen = _chosen(content, options, where)
    words.update(chosen)
    for key in asked:
        option = key.removeprefix("options.")
        if option in options:
            words[option] = options[option]
    # Pixels of a bundle hold ${size}, which the user may have asked for.
    for word in chosen:
        words[word] = filled(words[word], words, where)
    return words


def _chosen(content: Mapping[str, Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What the chosen values of options stand for, by word."""
    words: dict[str, Any] = {}
    choices = content.get("choices", {})
    values = choices.values() if isinstance(choices, dict) else [choices]
    if not all(isinstance(by_value, dict) for by_value in values):
        raise DataError(f"{where}: choices: give options, values and what they mean; {HELP}")
    from_bundle = content.get("from_bundle", {})
    for option, by_value in choices.items():
        value = str(options.get(option))
        brought = by_value.get(value)
        if brought is None and option in from_bundle:
            known = f"its choices are {', '.join(by_value)} and bundles"
            brought = {**bundle_words(value, f"{where}: {option}", known), **from_bundle[option]}
        if not isinstance(brought, dict):
            raise DataError(f"{where}: {option} is {value}; its choices are {', '.join(by_value)}")
        words |= brought
    return words
