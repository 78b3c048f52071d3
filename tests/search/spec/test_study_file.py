"""Study files: what is read, what is refused and how, what makes two files the same study."""

import inspect
import json
import tomllib
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from toy import toy_spec

from search.errors import SpecError
from search.spec import parse_spec, read_spec
from search.spec.keys import KEYS, TOP, Key
from search.spec.strategies import PRUNERS, SAMPLERS

TEXT = """
problem = "somewhere:Problem"
name = "demo"
seed = 3
metric = "accuracy"
direction = "maximize"
[budget]
trials = 5
[sampler]
name = "tpe"
[fixed]
epochs = 4
[space]
rate = { float = [0.001, 0.1], log = true }
layers = { int = [1, 3] }
[[trials]]
name = "first"
params = { rate = 0.01, layers = 2, extra = "a" }
[[trials]]
name = "second"
params = { rate = 0.02, layers = 3, extra = "b" }
"""


def test_what_a_file_says() -> None:
    spec = parse_spec(TEXT, where="demo.toml")
    assert (spec.name, spec.problem, spec.seed, spec.trials) == ("demo", "somewhere:Problem", 3, 5)
    assert (spec.sampler.name, spec.pruner.name, spec.hours) == ("tpe", "none", None)
    assert [named.name for named in spec.named] == ["first", "second"]
    assert spec.assigned(0) == spec.named[0]
    assert spec.assigned(2) is None


def test_an_undeclared_parameter_is_a_choice_among_the_named_values() -> None:
    spec = parse_spec(TEXT, where="demo.toml")
    distributions = spec.distributions(spec.named[0].params)
    assert distributions["extra"] == CategoricalDistribution(["a", "b"])
    assert distributions["rate"] == spec.space.parameters[0].distribution


@pytest.mark.parametrize(("one", "other"), [("1", "true"), ("1.0", "1"), ("false", "0.0")])
def test_an_undeclared_parameter_has_one_type_for_one_value(one: str, other: str) -> None:
    """Optuna takes 1, true and 1.0 for the same choice, so the second would run with the first."""
    text = TEXT.replace('extra = "a"', f"extra = {one}").replace('extra = "b"', f"extra = {other}")
    with pytest.raises(SpecError) as caught:
        parse_spec(text, where="demo.toml")
    assert str(caught.value) == (
        f"demo.toml: trials[1]: extra is {other} here and {one} in 'first', which count as the "
        "same value; write both alike"
    )
    parse_spec(TEXT.replace("rate = 0.02", "rate = 0.01"), where="demo.toml")


@pytest.mark.parametrize("name", ["a" * 201, "a\\u0000", "a\\n", ""])
@pytest.mark.parametrize(
    ("where", "before"),
    [
        ("demo.toml", "[space]\n"),
        ("demo.toml: fixed", "[fixed]\n"),
        ("demo.toml: refit", "[refit]\n"),
        ("demo.toml: trials[0]", "params = {"),
    ],
)
def test_a_name_that_not_every_storage_holds(name: str, where: str, before: str) -> None:
    text = TEXT + ("\n[refit]\n" if "refit" in before else "")
    value = "{ int = [1, 2] }\n" if "space" in before else "1\n"
    value = value if before.endswith("\n") else "1,"
    text = text.replace(before, f'{before}"{name}" = {value}', 1)
    with pytest.raises(SpecError) as caught:
        parse_spec(text, where="demo.toml")
    assert str(caught.value).startswith(f"{where}: a parameter's name is 1 to 200 printable char")
    assert "\n" not in str(caught.value)


def test_comments_and_order_do_not_change_the_hash_and_values_do() -> None:
    spec = parse_spec(TEXT, where="a")
    reordered = TEXT.replace('metric = "accuracy"\n', "").replace(
        "seed = 3", '# a comment\nseed = 3\nmetric = "accuracy"'
    )
    assert parse_spec(reordered, where="b").hash == spec.hash
    changed = parse_spec(
        TEXT.replace("layers = { int = [1, 3] }", "layers = { int = [1, 4] }"), where="c"
    )
    assert changed.hash != spec.hash
    assert changed.differences(spec.text) == ["space.layers.int: [1, 3] in the study, [1, 4] here"]


def test_a_grid_gives_each_lineage_its_own_point() -> None:
    text = TEXT.replace('name = "tpe"', 'name = "grid"').replace("trials = 5", "")
    text = text.replace("{ float = [0.001, 0.1], log = true }", "{ choice = [0.01, 0.02] }")
    spec = parse_spec(text, where="grid.toml")
    assert spec.trials == 2 + 6
    points = [spec.assigned(n).params for n in range(2, spec.trials)]
    assert len({tuple(sorted(point.items())) for point in points}) == 6


def test_a_study_of_named_trials_alone_needs_no_budget() -> None:
    text = TEXT[: TEXT.index("[budget]")] + TEXT[TEXT.index("[fixed]") : TEXT.index("[space]")]
    text += TEXT[TEXT.index("[[trials]]") :]
    assert parse_spec(text, where="named.toml").trials == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 3", "sede = 3", "demo.toml has no key 'sede'; did you mean 'seed'"),
        ("seed = 3", "seed = -1", "seed must be a whole number >= 0, got -1"),
        ("seed = 3", "seed = true", "seed must be a whole number >= 0, got True"),
        ('metric = "accuracy"', "", "metric is missing; add metric = "),
        ('"maximize"', '"up"', "direction must be maximize or minimize, got 'up'"),
        ('"demo"', '"de mo"', "name must be 1 to 100 letters .* got 'de mo'; rename"),
        ('"somewhere:Problem"', '"somewhere"', "problem must be 'module:Class', got 'somewhere'"),
        ("trials = 5", "trails = 5", r"\[budget\] has no key 'trails'; did you mean 'trials'"),
        (
            "trials = 5",
            "trials = 0",
            "budget: trials must be a whole number >= 1 and <= 100,000, got 0",
        ),
        ("trials = 5", "trials = 1", "budget.trials = 1 is below the 2 named trials"),
        ("trials = 5", "", "budget.trials is missing"),
        (
            "trials = 5",
            "trials = 1000000000",
            "trials must be a whole number >= 1 and <= 100,000, got 1000000000",
        ),
        ("trials = 5", "trials = 5\nhours = 0", "hours must be a number > 0, got 0"),
        ('name = "tpe"', 'name = "tpes"', "unknown sampler 'tpes'; did you mean 'tpe'"),
        ('name = "tpe"', 'name = "tpe"\nn_startup = 1', "no option 'n_startup'; did you mean"),
        ("trials = 5", "trials = 5\nhours = nan", "hours must be a finite number > 0, got nan"),
        ("trials = 5", "trials = 5\nhours = inf", "hours must be a finite number > 0, got inf"),
        (
            "[fixed]",
            '[pruner]\nname = "percentile"\n[fixed]',
            "pruner: percentile is missing; add",
        ),
        ("[fixed]", '[pruner]\nname = "threshold"\n[fixed]', "needs lower or upper"),
        ("[fixed]", "[workers]\nmax_retries = -1\n[fixed]", "max_retries must be a whole number"),
        ("[fixed]", "[refit]\nunits = [1]\n[fixed]", r"refit: units must be .* got \[1\]"),
        ("[fixed]", "refit = 3\n[fixed]", "refit"),
        ("[fixed]", "[fixed]\nrate = 1", "rate stands in .fixed. and in .space."),
        ('name = "second"', 'name = "first"', "the name 'first' is taken"),
        ("rate = 0.02", "rate = 2.0", "rate = 2.0 lies outside the space; from 0.001 to 0.1"),
        ("[space]", "[space", "is not valid TOML"),
        ("[fixed]", "[control]\ntrials = 3\n[fixed]", "need less than 3 .*, got 3; lower it"),
        ("[fixed]", "[control]\ntrials = 0\n[fixed]", "trials must be a whole number >= 1, got 0"),
        ("[fixed]", "[control]\n[fixed]", "control: trials is missing; add trials = "),
        ("[fixed]", "[control]\ntrails = 1\n[fixed]", "'trails'; did you mean 'trials'"),
        ('"tpe"', '"random"\n[control]\ntrials = 1', "compares the sampler with random search"),
        ("[fixed]", "[audit]\nfraction = 0.1\n[fixed]", "got no pruner; add a .pruner."),
        ("[fixed]", "[audit]\n[fixed]", "audit: fraction is missing; add fraction = "),
        (
            "[fixed]",
            "[audit]\nfraction = 0\n[fixed]",
            "fraction must be a number > 0 and <= 1, got 0",
        ),
        ("[fixed]", "[audit]\nfraction = 2\n[fixed]", "must be a number > 0 and <= 1, got 2"),
    ],
)
def test_a_mistake_names_file_rule_value_and_remedy(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(SpecError, match=message) as caught:
        parse_spec(TEXT.replace(old, new, 1), where="demo.toml")
    assert str(caught.value).startswith("demo.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("sampler", 'name = "tpe"\nn_startup_trials = "ten"', "n_startup_trials .* got 'ten'"),
        (
            "sampler",
            'name = "tpe"\nn_ei_candidates = 0',
            "a whole number >= 1 and <= 100,000, got 0",
        ),
        ("sampler", 'name = "cma-es"\nn_startup_trials = true', "whole number >= 0, got True"),
        ("pruner", 'name = "hyperband"\nmin_resource = "auto"', "min_resource must be a whole"),
        ("pruner", 'name = "hyperband"\nmin_resource = 0', "a whole number >= 1, got 0"),
        ("pruner", 'name = "hyperband"\nreduction_factor = 2.5', "whole number >= 2, got 2.5"),
        ("pruner", 'name = "successive-halving"\nreduction_factor = "3"', "number >= 2, got '3'"),
        ("pruner", 'name = "patience"\npatience = 1.5', "whole number >= 0, got 1.5"),
        ("pruner", 'name = "threshold"\nlower = nan', "lower must be a finite number, got nan"),
        (
            "pruner",
            'name = "hyperband"\nmin_resource = 3\nmax_resource = 1',
            "needs max_resource >= min_resource, got max_resource = 1 and min_resource = 3",
        ),
    ],
)
def test_an_option_that_would_fail_in_a_trial_is_refused(
    strategy: str, options: str, message: str
) -> None:
    """Optuna takes these when it is made, and raises, or does nothing, when it is used."""
    text = TEXT.replace('[sampler]\nname = "tpe"\n', "")
    with pytest.raises(SpecError, match=message) as caught:
        parse_spec(text.replace("[fixed]", f"[{strategy}]\n{options}\n[fixed]"), where="demo.toml")
    assert str(caught.value).startswith("demo.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", ['"hyperband"\nmax_resource = "auto"', '"successive-halving"\nmin_resource = "auto"']
)
def test_optunas_own_word_for_a_resource_is_taken(options: str) -> None:
    text = TEXT.replace("[fixed]", f"[pruner]\nname = {options}\n[fixed]")
    assert "auto" in parse_spec(text, where="demo.toml").pruner.options.values()


def test_a_grid_refuses_more_trials_than_points() -> None:
    text = TEXT.replace('name = "tpe"', 'name = "grid"').replace("trials = 5", "trials = 50")
    text = text.replace("{ float = [0.001, 0.1], log = true }", "{ choice = [0.01, 0.02] }")
    with pytest.raises(SpecError, match="8 named trials and points of the grid.*= 50; set it to 8"):
        parse_spec(text, where="grid.toml")


def test_a_grid_too_large_to_shuffle_is_refused_without_being_built() -> None:
    axes = "\n".join(f"p{i} = {{ int = [1, 10] }}" for i in range(15))
    text = TEXT[: TEXT.index("[space]")].replace('name = "tpe"', 'name = "grid"')
    with pytest.raises(SpecError, match="may have 1,000,000 points, got 1,000,000,000,000,000; "):
        parse_spec(f"{text}[space]\n{axes}", where="grid.toml")
    text += "[space]\nx = { int = [1, 1000001] }"
    with pytest.raises(SpecError, match="got 1,000,001; give it fewer values, or name the sampler"):
        parse_spec(text, where="grid.toml")
    assert parse_spec(text.replace("1000001", "1000000"), where="grid.toml").trials == 5


def test_the_files_that_ship_are_valid() -> None:
    folder = Path(__file__).parents[3] / "studies"
    names = {path.stem: read_spec(path).name for path in folder.glob("*.toml")}
    assert names.keys() >= {"quick", "ann", "cnn", "ablation", "baselines"}
    assert all(stem == name for stem, name in names.items())


_VALUES = st.recursive(
    st.none().map(lambda _: False)
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=8,
)


def to_toml(document: dict[str, object]) -> str:
    return "".join(f"{_inline(name)} = {_inline(value)}\n" for name, value in document.items())


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_inline(k)} = {_inline(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()


@given(st.sampled_from(KEYS), _VALUES)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(key: Key, value: object) -> None:
    document: dict[str, object] = tomllib.loads(TEXT)
    if key.table == TOP:
        document[key.name] = value
    elif key.table == "trials":
        document["trials"] = [{"name": "only", "params": {}, key.name: value}]
    elif key.table == "space.NAME":
        document["space"] = {"x": {"float": [0.0, 1.0], key.name: value}}
    else:
        document[key.table] = {"name": key.only[0] if key.only else "median", key.name: value}
    try:
        parse_spec(to_toml(document), where="any.toml")
    except SpecError as error:
        line = str(error)
        assert line.startswith("any.toml") and "\n" not in line and len(line) < 1000


@pytest.mark.parametrize("kind", ["sampler", "pruner"])
def test_the_defaults_in_the_table_of_keys_are_optunas(kind: str) -> None:
    makers = {
        "tpe": optuna.samplers.TPESampler,
        "gp": optuna.samplers.GPSampler,
        "cma-es": optuna.samplers.CmaEsSampler,
        "nsga-ii": optuna.samplers.NSGAIISampler,
        "qmc": optuna.samplers.QMCSampler,
        "median": optuna.pruners.MedianPruner,
        "percentile": optuna.pruners.PercentilePruner,
        "successive-halving": optuna.pruners.SuccessiveHalvingPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "patience": optuna.pruners.PatientPruner,
        "threshold": optuna.pruners.ThresholdPruner,
    }
    for name, options in {"sampler": SAMPLERS, "pruner": PRUNERS}[kind].items():
        for key in options.values():
            default = inspect.signature(makers[name]).parameters[key.name].default
            assert key.default == (None if default is inspect.Parameter.empty else default), key


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        ("pruner", "asha", "successive-halving"),
        ("pruner", "Hyper-Band", "hyperband"),
        ("sampler", "TPE", "tpe"),
        ("sampler", "cmaes", "cma-es"),
        ("sampler", "bayesian", "tpe"),
        ("sampler", "rnadom", "random"),
    ],
)
def test_a_strategy_by_another_name_is_recognised(kind: str, name: str, near: str) -> None:
    text = TEXT.replace('[sampler]\nname = "tpe"', f'[{kind}]\nname = "{name}"')
    with pytest.raises(SpecError, match=f"unknown {kind} '{name}'; did you mean '{near}'"):
        parse_spec(text, where="demo.toml")


def test_a_key_in_the_wrong_table_is_sent_to_the_right_one() -> None:
    with pytest.raises(SpecError, match=r"demo.toml has no key 'hours'; it belongs in \[budget\]"):
        parse_spec(f"hours = 2\n{TEXT}", where="demo.toml")
    text = TEXT.replace("trials = 5", "trials = 5\nmode = 'holdout'")
    with pytest.raises(SpecError, match=r"\[budget\] has no key 'mode'; it belongs in the top of"):
        parse_spec(text, where="demo.toml")


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("workers", "heartbeat_seconds", "1e300"),
        ("workers", "heartbeat_seconds", "1" + 307 * "0"),
        ("workers", "trial_timeout_seconds", "1e300"),
        ("sampler", "n_ei_candidates", "1" + 30 * "0"),
        ("sampler", "population_size", "1" + 30 * "0"),
    ],
)
def test_what_no_clock_or_memory_holds_is_refused(table: str, key: str, value: str) -> None:
    name = 'name = "nsga-ii"\n' if key == "population_size" else ""
    with pytest.raises(SpecError, match=rf"{key} must be a .*number.* <= [\d,]+, got"):
        parse_spec(toy_spec(extra=f"[{table}]\n{name}{key} = {value}"), where="f.toml")
