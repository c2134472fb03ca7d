"""Attacks on every recipe, with its defence and without: `python -m benchmarks.attacks [--json] [--recipe NAME]`.

Two simulated parties train with the recipe's defaults over the in-memory channel, and everything that is sent is kept.
Then each party studies what it received, decoded with the keys that it has; and once more with the defence off. Every
figure is the AUC of an attack: 0.5 tells nothing, 1 everything. Beside it stands *guess*, the AUC of the same attacker
with the same knowledge besides, but without the run: what the attack adds to it is the leak.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.attacks.boosting import on_trees
from benchmarks.attacks.figures import Figure
from benchmarks.attacks.listening import OpenScheme, carry_out
from benchmarks.attacks.population import OUTSIDERS, SHARED, population
from benchmarks.attacks.splitting import OFF, on_split_nn

CLOSE = 0.02
"""A leak of at most this much counts as none."""


def transfer_boost(seed: int) -> list[Figure]:
    from ftl.protocols.transfer_boost import TransferBoost

    scheme = OpenScheme()
    heard = carry_out(TransferBoost(scheme), population(seed), {})
    return on_trees(heard, scheme, "transfer_boost", (" of opinion trees", " of label trees", " of trees alone"))


def secure_boost(seed: int) -> list[Figure]:
    from ftl.protocols.secure_boost import SecureBoost

    scheme = OpenScheme()
    return on_trees(carry_out(SecureBoost(scheme), population(seed), {}), scheme, "secure_boost")


def split_nn(seed: int, **given: Any) -> list[Figure]:
    from ftl.protocols.split_nn import SplitNN

    scheme, bare = OpenScheme(), OpenScheme()
    frames = population(seed)
    on, off = (carry_out(SplitNN(each), frames, {**given, **more}) for each, more in ((scheme, {}), (bare, OFF)))
    return on_split_nn(on, scheme, off, bare, "split_nn")


def hetero_logistic(seed: int) -> list[Figure]:
    from benchmarks.attacks.gradients import on_hetero_logistic

    return on_hetero_logistic(seed)


def neural_transfer(seed: int) -> list[Figure]:
    from benchmarks.attacks.gradients import on_neural_transfer

    return on_neural_transfer(seed)


RECIPES: dict[str, Callable[[int], list[Figure]]] = {
    each.__name__: each for each in (transfer_boost, secure_boost, hetero_logistic, neural_transfer, split_nn)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=list(RECIPES), action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the people")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    given = parser.parse_args()
    figures: list[Figure] = []
    seconds: dict[str, float] = {}
    for name in given.recipe or RECIPES:
        start = time.perf_counter()
        found = RECIPES[name](given.seed)
        seconds[name] = round(time.perf_counter() - start, 1)
        figures += found
        if not given.json:
            show(found)
    if given.json:
        rows = [{**asdict(figure), "leak": figure.leak, "close": figure.leak <= CLOSE} for figure in figures]
        print(json.dumps({"shared": SHARED, "outsiders": OUTSIDERS, "figures": rows, "seconds": seconds}, indent=1))


def show(figures: list[Figure]) -> None:
    print(f"{'recipe':<16} {'attack':<52} {'by':<18} {'guess':>6} {'on':>6} {'leak':>7} {'off':>6}")
    for figure in figures:
        off = "" if figure.off is None else f"{figure.off:6.3f}"
        leak = f"{figure.leak:+7.3f}"
        columns = f"{figure.recipe:<16} {figure.attack:<52} {figure.attacker:<18}"
        print(f"{columns} {figure.guess:6.3f} {figure.on:6.3f} {leak} {off:>6}")
    print(flush=True)


if __name__ == "__main__":
    main()
