"""The commands on images, models and bundles, a module each: `EXAMPLE`, `add`, `main`."""

from collections.abc import Mapping

__all__ = ["COMMANDS"]

#: Name -> the sentence that `--help` shows. It stands here so that `--help` imports no module.
COMMANDS: Mapping[str, str] = {
    "export": "write the bundle of the best trial, or of an ensemble: weights, ONNX, card",
    "evaluate": "measure a bundle on the test set, once per study",
    "predict": "classify images with a bundle",
    "compare": "tabulate the winners of studies: accuracy, cost, size, speed, which is better",
    "report": "write a self-contained page on studies, and its figures as PNG and SVG",
    "data": "fetch the data set, or verify every byte of it",
    "doctor": "list what is installed here, what is missing, and what to do about it",
}
