"""optuna-dashboard behind a door: log-in, read-only by default, and a right best trial.

`server` starts it, `door` decides what passes, `headers` tells browsers the rules, `session` knows
who is logged in, `login` draws the log-in page, `feasible` corrects what optuna-dashboard reads,
`load` keeps large studies light, `note` and `pictures` write what is shown.
"""

from search.dashboard.artifacts import Artifacts, Pictures
from search.dashboard.note import annotate
from search.dashboard.server import application, serve

__all__ = ["Artifacts", "Pictures", "annotate", "application", "serve"]
