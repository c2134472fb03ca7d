"""Recipes by name, from this package and from any other that declares the entry point group ``ftl.recipes``."""

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from ftl.errors import ConsortiumError
from ftl.protocols import Recipe

GROUP = "ftl.recipes"


def recipe_names() -> tuple[str, ...]:
    """Names of the installed recipes."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConsortiumError: there is none, or its package cannot be imported.
    """
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    if not points:
        near = difflib.get_close_matches(name, recipe_names(), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConsortiumError(f"There is no recipe {name!r}.", cure=f"{hint}Installed: {', '.join(recipe_names())}.")
    return _loaded(points[0])


def _loaded(point: EntryPoint) -> Recipe:
    try:
        return cast("Recipe", point.load())
    except (ImportError, AttributeError) as exc:
        raise ConsortiumError(
            f"Recipe {point.name!r} ({point.value}) cannot be loaded: {exc}.", cure="Install its package again."
        ) from exc
