"""Networks as scikit-learn classifiers, trained by the same loop as the trials of a study.

    ANNClassifier(hidden_units=(256, 128), dropout=0.3, epochs=12).fit(images, labels)

They work wherever scikit-learn's own classifiers do: in a Pipeline, in cross_val_score, in
RandomizedSearchCV, HalvingRandomSearchCV (with `resource="epochs"`) and `StudySearchCV`.
"""

from fmnist_hpo.networks.classifier import NetworkClassifier
from fmnist_hpo.networks.config import ANNConfig, CNNConfig

__all__ = ["ANNClassifier", "CNNClassifier"]


class ANNClassifier(NetworkClassifier, network=ANNConfig):
    """A multilayer perceptron: each hidden layer is linear, batch norm, activation, dropout.

    The parameters and their defaults are those of a study file with `family = "ann"`. A parameter
    per layer takes one value for all layers, or a sequence with one value for each.

    Images of type uint8 are normalised as in a study. Other real numbers are converted to float32:
    `normalization="symmetric"` maps the range of the training data to [-1, 1], "standard" scales
    it to mean 0 and standard deviation 1. Both use one scale for all columns. A table whose columns
    have different units needs a StandardScaler in front, as for any network.

    Parameters
    ----------
    {parameters}
    validation_fraction : float, default=0.1
        Share of the samples that is held out, stratified by class, when `patience` is given.
        Without `patience` the network is trained on all samples.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the order of the samples, augmentation, dropout and the choice
        of the held-out part.

    Attributes
    ----------
    classes_ : array of shape (classes,)
        The labels, sorted.
    image_size_ : tuple of (rows, columns)
        Size of the training images in pixels.
    history_ : tuple of EpochMetrics
        Loss and accuracy of each epoch, or of each part of one with `report_every`. After
        `partial_fit` those of the epochs that led to the present weights.
    best_epoch_ : int, or float with `report_every`
        The epoch whose weights are kept, counted from 1; the last one without `patience`.
    n_features_in_ : int
        Number of pixels of an image.
    """


class CNNClassifier(NetworkClassifier, network=CNNConfig):
    """A convolutional network: blocks of "same" convolutions and pooling, then a dense head.

    The parameters and their defaults are those of a study file with `family = "cnn"`. Images,
    attributes and the parameters of training are those of `ANNClassifier`.

    Parameters
    ----------
    {parameters}
    validation_fraction : float, default=0.1
        Share of the samples that is held out, stratified by class, when `patience` is given.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the order of the samples, augmentation, dropout and the choice
        of the held-out part.
    """
