"""Every key of a study file, as data for the parser and the documentation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import nearest

__all__ = ["KEYS", "TOP", "Key", "keys_of", "unknown_key"]

MOST_LINEAGES = 100_000  # each is a row from the start; TPE and the dashboard give up before
MOST_HEARTBEAT_SECONDS = 86_400  # a trial whose worker died waits for some of them
TOP = ""  # the table of the keys that stand before the first [table]


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a study file.

    Attributes:
        table: the table it stands in: TOP, "budget", "space.NAME", "trials".
        type: "string", "integer", "number", "boolean", "table", "list", or what else may stand.
        default: the value when the key is absent; None: no value.
        required: whether it must be given.
        low, above, high: bounds of a number: low <= value, above < value, value <= high.
        choices: the strings that are allowed; () for any.
        only: the samplers or pruners that take this option; () for a key that is no option.
        words: strings that are allowed in place of a number.
        condition: a rule that the fields above do not express, for the documentation.
        text: one sentence on what it is for.
    """

    table: str
    name: str
    type: str
    text: str
    default: Any = None
    required: bool = False
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    condition: str = ""

    @property
    def rule(self) -> str:
        """What a value must be, as a message says it: "a whole number >= 1"."""
        if self.choices:
            few = len(self.choices) <= 2
            return " or ".join(self.choices) if few else f"one of {', '.join(self.choices)}"
        kind = {
            "integer": "a whole number",
            "number": "a number",
            "string": "1 to 200 printable characters",
        }
        rule = kind.get(self.type, f"a {self.type}")
        if self.type == "list" and self.condition.startswith("of "):
            rule += f" {self.condition.partition(';')[0]}"
        bounds = [
            f"{sign} {bound:,g}" if bound < 10_000 else f"{sign} {bound:,.0f}"
            for sign, bound in ((">=", self.low), (">", self.above), ("<=", self.high))
            if bound is not None
        ]
        if bounds:
            rule += f" {' and '.join(bounds)}"
        if self.words:
            rule += f" or {' or '.join(map(repr, self.words))}"
        return rule


# fmt: off
def _top() -> Iterator[Key]:
    def key(name: str, kind: str, text: str, **more: Any) -> Key:
        return Key(table=TOP, name=name, type=kind, text=text, **more)

    yield key("name", "string", "The name of the study, in the storage and of its folder in runs/.",
              required=True,
              condition="of letters, digits, '.', '_' and '-', at most 100")
    yield key("problem", "string", "The class that trains and scores a configuration.",
              required=True, condition="module:Class")
    either = "required, unless metrics stands"
    yield key("metric", "string", "The name of the value that a trial returns.", condition=either)
    yield key("direction", "string", "Whether a larger or a smaller value is better.",
              choices=("maximize", "minimize"), condition=either)
    yield key("metrics", "list", "In place of metric and direction: one or two metrics. Of two, "
              "the search is for the trials that no other betters in both.",
              condition="of { name, direction }")
    yield key("seed", "integer", "The seed of the sampler and of every trial.", default=0, low=0)
    yield key("mode", "string", "How a configuration is scored: on one held-out part, or on folds.",
              default="holdout", choices=("holdout", "cross-validation"))
    yield key("folds", "integer", "The number of folds of a cross-validation.", low=2,
              condition="5 if absent; with mode = \"cross-validation\" only")
    tables = {
        "budget": "How much is searched.",
        "sampler": "What proposes configurations.",
        "pruner": "What ends a trial before its last step.",
        "constraints": "Metrics that a configuration must keep within bounds, a table each.",
        "prior": "Earlier studies whose results this one takes over.",
        "control": "Random trials beside the sampler's, to compare it with random search.",
        "audit": "Pruned trials that run on, to see what the pruner throws away.",
        "confirm": "The best trials are trained again after the search, and the best mean wins.",
        "refit": "Parameters that replace those of the best trial when it is trained again on all "
                 "training data: by a longer training, say.",
        "workers": "How workers behave.",
        "notify": "Notices of what happens, posted to a URL.",
        "track": "Trackers that the trials are written to while the study runs.",
        "data": "Settings for the problem: its class gets this table.",
        "fixed": "Parameters that are the same in every trial.",
        "space": "Parameters that are searched, a table each.",
    }
    for name, text in tables.items():
        yield key(name, "table", text)
    yield key("trials", "list", "Trials that run first, exactly as given.",
              condition="of [[trials]] tables")


def _tables() -> Iterator[Key]:
    yield Key(table="budget", name="trials", type="integer", low=1,
              text="The number of trials that finish: each counts once, however often it is "
              "resumed. With freeze-thaw: that begin at most.", high=MOST_LINEAGES,
              condition="required unless the grid or the named trials set it")
    yield Key(table="budget", name="hours", type="number", above=0,
              text="Hours with a worker at work after which no further trial begins, and no paused "
              "one goes on.")
    yield Key(table="budget", name="steps", type="integer", low=1,
              text="The same, by the steps that all trials together have reported; it does not "
              "depend on the machine.")
    yield Key(table="budget", name="target", type="number",
              text="A value of the metric: no further trial begins once a complete trial has it or "
              "a better one.")
    yield Key(table="budget", name="patience", type="integer", low=1,
              text="So many complete trials without a better one, since the last amendment, after "
              "which no further trial begins.")
    yield Key(table="metrics", name="name", type="string", required=True,
              text="The name of a metric that a trial returns; the first one is also reported at "
              "each step.")
    yield Key(table="metrics", name="direction", type="string", required=True,
              choices=("maximize", "minimize"), text="Whether a larger or a smaller value is "
              "better.")
    yield Key(table="constraints.NAME", name="max", type="number",
              text="The largest value that is allowed of the metric NAME.")
    yield Key(table="constraints.NAME", name="min", type="number",
              text="The smallest value that is allowed.")
    yield Key(table="prior", name="studies", type="list", required=True,
              text="The earlier studies, with the same metric.",
              condition='of "NAME", in the same storage, or "NAME@URL"; at most 20')
    yield Key(table="prior", name="trials", type="integer", default=5, low=0, high=1000,
              text="How many of their best configurations run first: trials of the budget.")
    yield Key(table="control", name="trials", type="integer", low=1, required=True,
              text="How many trials of the budget are drawn at random and never pruned.")
    yield Key(table="audit", name="fraction", type="number", above=0, high=1, required=True,
              text="The share of pruned trials that run on to their last step; with freeze-thaw, "
              "of those that are paused when the budget is used up.")
    yield Key(table="confirm", name="top", type="integer", default=4, low=2, high=100,
              text="How many of the best trials.", condition="at most budget.trials")
    yield Key(table="confirm", name="seeds", type="integer", default=3, low=2, high=100,
              text="How often each of them is trained again, each time with another seed.")
    yield Key(table="confirm", name="splits", type="string", default="reshuffled",
              choices=("reshuffled", "same"),
              text="Whether each time is also on another split of the data.")
    yield Key(table="workers", name="heartbeat_seconds", type="number", default=5.0, low=0.1,
              high=MOST_HEARTBEAT_SECONDS,
              text="Seconds between two heartbeats of a running trial.")
    yield Key(table="workers", name="max_retries", type="integer", default=3, low=0,
              text="How often a trial is resumed after its worker died.")
    yield Key(table="workers", name="trial_timeout_seconds", type="number", above=0, high=10**9,
              text="Seconds after which a trial is ended.")
    yield Key(table="notify", name="url", type="string", required=True,
              condition='"env:NAME": the environment variable that holds it',
              text="Where one JSON document is posted for each event.")
    yield Key(table="notify", name="on", type="list", default=["finished", "halted"],
              condition="of best, finished, halted", text="The events.")
    yield Key(table="track", name="to", type="list", required=True,
              condition='of "mlflow:URI", "tensorboard:DIR" and "wandb:DIR"', text="The trackers.")
    yield Key(table="trials", name="name", type="string", required=True,
              text="The name of this trial, in tables and reports.")
    yield Key(table="trials", name="params", type="table", default={},
              text="Its parameters: one complete point of the space; those of one value may be "
              "left out.")
    yield Key(table="trials", name="repeat", type="integer", low=0, high=9999,
              text="Trials with the same number here have the same seed, so that they can be "
              "compared in pairs; else each trial has a seed of its own.")
    yield Key(table="trials", name="reshuffle", type="boolean", default=False,
              text="Whether it is trained on another split of the data, which is that of its "
              "repeat.", condition="with repeat only")


def _space() -> Iterator[Key]:
    def key(name: str, kind: str, text: str, **more: Any) -> Key:
        return Key(table="space.NAME", name=name, type=kind, text=text, **more)

    yield key("int", "list", "The range of a whole number.",
              condition="[low, high], both included")
    yield key("float", "list", "The range of a number.", condition="[low, high], both included")
    yield key("choice", "list", "The values to choose from.",
              condition="at most 1,000 strings, numbers, true or false")
    yield key("default", "value", "Its value in the study's first trial, which is named defaults "
              "and stands before those of [[trials]].",
              condition="within the range; if one parameter has a default, each that applies in "
              "that trial needs one")
    yield key("log", "boolean", "Whether to search on a logarithmic scale.", default=False)
    yield key("step", "number", "The distance between two values of an int or float.", above=0)
    yield key("when", "table", "The parameter applies only while earlier ones have these values.")
    yield key("for_each", "string", "An earlier whole number n: the parameter is sampled n times, "
              "as name_0 to name_{n-1}.")


def _options() -> Iterator[Key]:
    def option(table: str, only: str, name: str, kind: str, text: str, **more: Any) -> Key:
        takers = tuple(only.split())
        return Key(table=table, name=name, type=kind, text=text, only=takers, **more)

    samplers = ("auto", "freeze-thaw", "random", "tpe", "gp", "cma-es", "nsga-ii", "qmc", "grid")
    yield Key(table="sampler", name="name", type="string", default="auto", choices=samplers,
              condition="tpe where an option stands without a name",
              text="The method that proposes configurations; auto is freeze-thaw where the problem "
              "and the study file allow it, else tpe.")
    start = "The number of random trials before the sampler learns from them."
    yield option("sampler", "tpe gp", "n_startup_trials", "integer", start, default=10, low=0)
    yield option("sampler", "cma-es", "n_startup_trials", "integer", start, default=1, low=0)
    yield option("sampler", "tpe", "n_ei_candidates", "integer",
                 "The number of candidates of which the best is proposed.", default=24, low=1,
                 high=100_000)
    yield option("sampler", "nsga-ii", "population_size", "integer",
                 "The number of complete trials of a generation.", default=50, low=2,
                 high=MOST_LINEAGES)
    yield option("sampler", "qmc", "qmc_type", "string", "The low-discrepancy sequence.",
                 default="sobol", choices=("sobol", "halton"))
    pruners = ("none", "median", "percentile", "successive-halving", "hyperband", "patience",
               "threshold")
    yield Key(table="pruner", name="name", type="string", default="none", choices=pruners,
              text="The rule that ends a trial early.")
    yield option("pruner", "percentile", "percentile", "number",
                 "A trial ends if it is not within the best of this percentage.",
                 required=True, low=0, high=100)
    both = "median percentile"
    yield option("pruner", both, "n_startup_trials", "integer",
                 "The number of complete trials before the first is pruned.", default=5, low=0)
    yield option("pruner", f"{both} threshold", "n_warmup_steps", "integer",
                 "The number of steps before a trial may be pruned.", default=0, low=0)
    yield option("pruner", f"{both} threshold", "interval_steps", "integer",
                 "Steps between two checks.", default=1, low=1)
    yield option("pruner", both, "n_min_trials", "integer",
                 "The number of trials that must have reported a step.", default=1, low=1)
    yield option("pruner", "successive-halving", "min_resource", "integer",
                 "The steps of the first rung.", default="auto", low=1, words=("auto",))
    yield option("pruner", "successive-halving", "min_early_stopping_rate", "integer",
                 "The number of rungs that are left out.", default=0, low=0)
    factor = "One trial in this many goes on to the next rung."
    yield option("pruner", "successive-halving", "reduction_factor", "integer", factor,
                 default=4, low=2)
    yield option("pruner", "hyperband", "reduction_factor", "integer", factor, default=3, low=2)
    yield option("pruner", "hyperband", "min_resource", "integer",
                 "The steps of the first rung of the first bracket.", default=1, low=1)
    yield option("pruner", "hyperband", "max_resource", "integer", "The last step of a trial.",
                 default="auto", low=1, words=("auto",))
    yield option("pruner", "patience", "patience", "integer",
                 "The number of steps without a better value after which a trial ends.",
                 required=True, low=0)
    yield option("pruner", "patience", "min_delta", "number",
                 "A smaller gain than this is none.", default=0.0, low=0)
    yield option("pruner", "threshold", "lower", "number", "A trial with a value below this ends.")
    yield option("pruner", "threshold", "upper", "number", "A trial with a value above this ends.")


# fmt: on
#: Every key, in the order in which a study file is written.
KEYS: tuple[Key, ...] = (*_top(), *_tables(), *_options(), *_space())


def keys_of(table: str, only: str | None = None) -> Mapping[str, Key]:
    """The keys of a table by name; with `only`, those that this sampler or pruner takes."""
    return {
        key.name: key
        for key in KEYS
        if key.table == table and (only is None or not key.only or only in key.only)
    }


def unknown_key(name: str, table: str, known: Mapping[str, Key], where: str) -> str:
    """The message for a key that a table does not have: it names the nearest right one.

    Args:
        where: the file.
    """
    subject = f"{where}: [{table}]" if table else where
    near = nearest(name, known)
    if near is not None:
        return f"{subject} has no key {name!r}; did you mean {near!r}?"
    for key in KEYS:
        if key.name == name and key.table != table and key.table in (TOP, "budget", "workers"):
            place = f"[{key.table}]" if key.table else "the top of the file, before any [table]"
            return f"{subject} has no key {name!r}; it belongs in {place}"
    return f"{subject} has no key {name!r}; it takes {', '.join(known) or 'no key'}"
