"""A study whose best trials are trained again."""

from toy import toy_spec

CONFIRM = "[confirm]\ntop = 3\nseeds = 4\n"
DATA = "[data]\nscale = 1.0\n"  # so much noise that another trial than the search's best wins


def confirmed_spec(
    *, confirm: str = CONFIRM, data: str = DATA, trials: int = 8, **options: str
) -> str:
    return toy_spec(
        "toy:Noisy",
        trials=trials,
        extra=f'[sampler]\nname = "random"\n{confirm}{data}',
        **options,
    )
