"""optuna-dashboard with a log-in, read-only by default, and with the right best trial.

`server` starts it, `auth` decides which requests pass, `headers` sets the browser's policies,
`sessions` signs the log-in cookies, `login_page` and `page_head` render HTML, `constraints`
corrects what optuna-dashboard reads, `large_studies` bounds its answers, `note` and `artifacts`
write what it shows, `private` holds the private names of Optuna in use.
"""

from search.dashboard.artifacts import Artifacts, Pictures
from search.dashboard.note import annotate
from search.dashboard.server import application, serve

__all__ = ["Artifacts", "Pictures", "annotate", "application", "serve"]
