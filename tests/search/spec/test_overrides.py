"""`--set KEY=VALUE`: what is read, and that the text written for it says the same to TOML."""

import tomllib

import hypothesis.strategies as st
import pytest
from hypothesis import given
from toy import toy_spec

from search.errors import SpecError
from search.spec import parse_spec, read_spec
from search.spec.overrides import Override, overridden, read_override

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(TEXT, VALUES, max_size=4), st.lists(TEXT, min_size=1, max_size=3), VALUES)
def test_the_text_holds_the_document_with_the_one_value_changed(document, path, value):
    try:
        text = overridden(document, [Override(path=tuple(path), value=value)], "x.toml")
    except SpecError:
        table = document
        for name in path[:-1]:
            table = table.get(name, {})
            if not isinstance(table, dict):
                return
        raise
    found = tomllib.loads(text)
    table = found
    for name in path:
        outer, table = table, table[name]
    assert table == value
    rest = {name: item for name, item in document.items() if name != path[0]}
    assert {name: item for name, item in found.items() if name != path[0]} == rest
    inside = outer if len(path) == 2 else {}
    before = document.get(path[0], {}) if inside else {}
    assert {k: v for k, v in inside.items() if k != path[-1]} == {
        k: v for k, v in before.items() if k != path[-1]
    }


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("budget.trials=8", ("budget", "trials"), 8),
        ("budget.hours = 0.5", ("budget", "hours"), 0.5),
        ("fixed.optimizer=adam", ("fixed", "optimizer"), "adam"),
        ('fixed.optimizer="adam"', ("fixed", "optimizer"), "adam"),
        ("fixed.batch_norm=true", ("fixed", "batch_norm"), True),
        ("data.dir=/data/a=b", ("data", "dir"), "/data/a=b"),
        ("problem=toy:Toy", ("problem",), "toy:Toy"),
        ("space.x={ float = [0, 1] }", ("space", "x"), {"float": [0, 1]}),
        ('fixed."a b"=1', ("fixed", "a b"), 1),
    ],
)
def test_an_override_is_a_dotted_key_and_a_value(text, path, value):
    assert read_override(text) == Override(path=path, value=value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("budget.trials", "budget.trials"),
        ("=8", "'=8'"),
        ("budget.trials=", "budget.trials="),
        ("budget..trials=8", "budget..trials"),
        ("a b=8", "'a b'"),
        ("[budget]\ntrials=8", "trials"),
        ("space.x={ float = [0, 1]", "space.x"),
        ("seed=1\nname='x'", "seed"),
        ('name="x', "name"),
    ],
)
def test_what_is_no_override_is_refused_by_its_key(text, named):
    with pytest.raises(SpecError, match="need a|need KEY=VALUE") as refused:
        read_override(text)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_file_is_validated_with_the_new_values(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text(toy_spec(trials=6, extra="[fixed]\nsteps = 2 # comment"))
    changes = [read_override(text) for text in ("budget.trials=3", "fixed.steps=9", "name=short")]
    spec = read_spec(file, changes)
    assert (spec.name, spec.trials, spec.fixed) == ("short", 3, {"steps": 9})
    assert spec.space == read_spec(file).space
    assert parse_spec(spec.text, where="stored").hash == spec.hash
    for text, message in {
        "budget.trials=many": "budget: trials must be a whole number",
        "budget.trails=8": "[budget] has no key 'trails'; did you mean 'trials'?",
        "budget.trials.x=8": "cannot set budget.trials.x: budget.trials is no table but 6",
    }.items():
        with pytest.raises(SpecError) as refused:
            read_spec(file, [read_override(text)])
        assert message in str(refused.value)


def test_a_file_that_lacks_a_key_is_completed(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text(toy_spec().replace("trials = 6", ""))
    assert read_spec(file, [read_override("budget.trials=2")]).trials == 2
