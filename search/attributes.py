"""Every key that this service writes to a trial or a study, and why trials end.

A key stands here once; every other module names it as `attributes.LINEAGE` and the like. Keys that
Optuna or optuna-dashboard gave are marked as theirs.
"""

from enum import Enum

__all__ = ["Reason"]

# User attributes of a trial.
LINEAGE = "lineage"  # index of the lineage, 0 <= n < budget
NAME = "name"  # of a named trial, as the study file gave it
ARM = "arm"  # CONTROL, or absent
CONTROL = "control"  # value of ARM: drawn at random and not pruned, the baseline of the study
REASON = "reason"  # a Reason's value
RETRY_OF = "retry_of"  # number of the trial that this attempt continues
DUPLICATE_OF = "duplicate_of"  # number of an earlier trial with the same parameters
AUDIT = "audit"  # {"trial": , "step": , "value": } where the pruner would have ended the trial
LAST_STEP = "last_step"  # the step that completes it, in a study of freeze-thaw
AMENDMENT = "amendment"  # number of the last amendment when it was proposed; absent: none was
STEP_SECONDS = "step_seconds"  # what each recorded step took, where decisions weigh it, a list
DECISIONS = "decisions"  # why it began and went on: what was expected each time, a list
METRICS = "metrics"  # name -> value: of its configuration, and measured at its end
CURVES = "curves"  # name -> one value per recorded step; "step" -> the steps
WORKER = "worker"  # who ran this attempt
ENVIRONMENT = "environment"  # processor, versions, threads: what `Problem.environment` returned
DATA = "fingerprint"  # hashes of the data and the split that the trial was trained on
ERROR = "error"  # one line: type and message
ERROR_AT = "error_at"  # "TYPE at FILE:LINE" in the problem's code; equal: the same error
TRACEBACK = "traceback"
FOLD = "fold_"  # prefix, the index follows: what StudySearchCV measured on that fold
POINT = "point"  # a candidate of StudySearchCV, without a loss
PARAMS = "params"  # a candidate of StudySearchCV, written out for people

# System attributes of a trial.
LEASE = "search:lease"  # [lineage, attempt]
CONSTRAINT = "constraints:"  # Optuna's, a prefix: how far a constraint is broken
FIXED_PARAMS = "fixed_params"  # Optuna's: values that `suggest` returns
COMPLETED_RUNG = "completed_rung_"  # Optuna's, a prefix: what a halving pruner saw at that rung

# User attributes of a study.
UID = "search:uid"  # the key of its rows in the ledger
SPEC = "search:spec"  # the text of its study file; a StudySearchCV's study has none
FINGERPRINT = "search:fingerprint"  # of the problem's data
CHECKPOINTS = "search:checkpoints"  # address of its checkpoints
SAMPLER = "search:sampler"  # {"name": , "reason": } which sampler was chosen for it, and why
PRIOR = "search:prior"  # what was taken over from earlier studies, see `study.prior`
PERCENT = "search:percent"  # names of the metrics that are shown as a percentage
CONFIRMS = "search:confirms"  # {"uid": , "amendments": , "trials": } of the study it confirms
SKLEARN = "search:sklearn"  # fingerprint of a StudySearchCV
RANDOM_STATE = "search:random_state"  # of a StudySearchCV: an integer, or a RandomState's state

# System attributes of a study.
ARTIFACTS = "search:artifacts"  # absolute paths of the folders that hold its artifacts
METRIC_NAMES = "study:metric_names"  # Optuna's: labels of its axes


class Reason(Enum):
    """Why a trial ended other than by completing or by being pruned for its curve."""

    DIVERGED = "diverged"  # numbers no longer finite; reported to the sampler as pruned
    OUT_OF_MEMORY = "out-of-memory"  # the device or the machine had none left; not repeated
    TIMEOUT = "timeout"  # ran longer than one trial may; not repeated
    LOST = "lost"  # its worker died; repeated up to max_retries times
    STOPPED = "stopped"  # an attempt, not a trial: somebody asked its worker to stop; it goes on
    INFEASIBLE = "infeasible"  # breaks a constraint that is known in advance; was not trained
    OUT_OF_BUDGET = "out-of-budget"  # paused when the budget was used up, or a stop rule ended it
    BY_HAND = "stopped-by-hand"  # somebody ended it; it counts, and does not go on
    ERROR = "error"  # the problem's code raised; not repeated, unless the study was halted for it
