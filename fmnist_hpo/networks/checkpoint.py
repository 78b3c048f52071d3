"""Checkpoints of a run: all that its rest depends on, as bytes.

A checkpoint is safetensors. Its tensors are the network's, the optimiser's, the states of the
random generators, the running sums and the average of the weights; and the weights to be kept where
they are others: with patience those of the best step, or those that the network is evaluated with.
Its JSON part holds the position, the curve so far, and the run that it belongs to.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.config import TrainingConfig, from_json
from fmnist_hpo.networks.loop import EpochMetrics, Loop
from fmnist_hpo.networks.optimization import (
    begin_from_evaluation,
    progress,
    set_progress,
    trained_parameters,
)
from fmnist_hpo.networks.process import torch_defaults

__all__ = ["begin_from", "history", "restore", "save", "weights"]


@torch_defaults()
def save(loop: Loop) -> bytes:
    """A checkpoint of a loop between two batches."""
    tensors = _prefixed("network.", loop.weights())
    epoch, batch = divmod(loop.trained, loop.batches)
    moved = loop.trained != loop.batches_until(loop.step)  # since the last step's end
    if loop.apart or moved or loop.best != loop.step:  # else the kept weights are the network's
        tensors |= _prefixed("best.", loop.stored_weights)
    for index, moments in loop.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            if value is not None:
                tensors[f"optimizer.{index}.{name}"] = value.cpu().contiguous()
    for index, average in enumerate(loop.average.tensors):
        tensors[f"average.{index}"] = average.cpu().contiguous()
    tensors |= _prefixed("generator.", loop.generators)
    tensors["sum.loss"], tensors["sum.correct"] = loop.loss.cpu(), loop.correct.cpu()
    state = {
        "key": _key(loop),
        "epoch": epoch,
        "batch": batch,
        "seconds": loop.seconds,
        "best": loop.best,
        "groups": progress(loop.optimizer),
        "history": [asdict(metrics) for metrics in loop.history],
    }
    return safetensors.torch.save(tensors, {"state": json.dumps(state)})


@torch_defaults()
def begin_from(loop: Loop, checkpoint: bytes) -> None:
    """Give a new loop the kept weights and, of the same optimiser, the last moments of a run.

    Raises:
        InputError: the weights are another network's.
    """
    state, tensors = _state(checkpoint), safetensors.torch.load(checkpoint)
    kept, own = _kept(tensors), loop.network.state_dict()
    if {name: x.shape for name, x in kept.items()} != {name: x.shape for name, x in own.items()}:
        raise InputError(
            "training goes on with the network that it began with, got parameters of another "
            "network; set the former ones, or begin anew"
        )
    loop.network.load_state_dict(kept)
    for average, parameter in zip(loop.average.tensors, loop.network.parameters(), strict=False):
        average.copy_(parameter.detach())
    if json.loads(state["key"])[1]["optimizer"] == loop.config.optimizer:
        _restore_optimizer(loop, _part("optimizer.", tensors), state)
        begin_from_evaluation(loop.optimizer)


@torch_defaults()
def restore(loop: Loop, checkpoint: bytes) -> None:
    """Put a new loop where `checkpoint` left its run.

    Raises:
        InputError: the checkpoint is of another run.
    """
    state, tensors = _state(checkpoint), safetensors.torch.load(checkpoint)
    if not _is_of(loop, state["key"]):
        raise InputError(
            "a checkpoint resumes its own run only, got one of another configuration, seed or "
            "split; delete it to start over"
        )
    loop.network.load_state_dict(_part("network.", tensors))
    _restore_optimizer(loop, _part("optimizer.", tensors), state)
    for index, average in enumerate(loop.average.tensors):
        average.copy_(tensors[f"average.{index}"])
    loop.generators = _part("generator.", tensors)
    loop.loss.copy_(tensors["sum.loss"])
    loop.correct.copy_(tensors["sum.correct"])
    loop.trained = state["epoch"] * loop.batches + state["batch"]
    loop.seconds = state["seconds"]
    loop.history = [EpochMetrics(**row) for row in state["history"]]
    loop.best = state.get("best", 0)
    loop.stored_weights = _kept(tensors) if loop.best or (loop.apart and loop.history) else {}


def history(checkpoint: bytes) -> tuple[EpochMetrics, ...]:
    """The figures of a checkpoint's finished steps."""
    return tuple(EpochMetrics(**row) for row in _state(checkpoint)["history"])


@torch_defaults()
def weights(checkpoint: bytes) -> dict[str, Tensor]:
    """The network's state for evaluation: with patience after the best step, else the last."""
    return _kept(safetensors.torch.load(checkpoint))


def _key(loop: Loop) -> str:
    """What makes two runs the same run."""
    network, training = loop.network_config.to_json(), asdict(loop.config)
    return json.dumps([network, training, loop.seed, loop.split.hash])


def _is_of(loop: Loop, key: str) -> bool:
    """Whether a key is of this run. It may lack parameters newer than it, left at their default."""
    network, training, *others = json.loads(key)
    mine = asdict(loop.config)
    if others != [loop.seed, loop.split.hash] or not training.keys() <= mine.keys():
        return False
    return from_json(network) == loop.network_config and TrainingConfig(**training) == loop.config


def _restore_optimizer(loop: Loop, stored: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    parameters = trained_parameters(loop.network)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in stored.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        # in the parameter's memory order: the fused step walks both as one
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter).copy_(tensor).detach()
        moments.setdefault(int(index), {})[name] = tensor
    groups = loop.optimizer.state_dict()["param_groups"]
    loop.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    if "groups" in state:  # an older checkpoint has none, as its optimisers need none
        set_progress(loop.optimizer, state["groups"])


def _state(checkpoint: bytes) -> dict[str, Any]:
    """A checkpoint's JSON part, read from safetensors' header alone."""
    length = int.from_bytes(checkpoint[:8], "little")  # of the header
    header = json.loads(checkpoint[8 : 8 + length])
    state: dict[str, Any] = json.loads(header["__metadata__"]["state"])
    return state


def _kept(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _part("best.", tensors) or _part("network.", tensors)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
