"""The networks as scikit-learn classifiers, trained by the loop that trains a study's trials.

    ANNClassifier(hidden_units=(256, 128), dropout=0.3, epochs=12).fit(images, labels)

They work wherever scikit-learn's own classifiers do: in a Pipeline, in cross_val_score, in
RandomizedSearchCV, HalvingRandomSearchCV (with `resource="epochs"`) and `StudySearchCV`.
"""

from fmnist_hpo.networks.classifier import NetworkClassifier
from fmnist_hpo.networks.config import ANNConfig, CNNConfig

__all__ = ["ANNClassifier", "CNNClassifier"]


class ANNClassifier(NetworkClassifier, network=ANNConfig):
    """Fully connected layers: linear, batch norm, activation, dropout; then the classifier.

    The parameters are those of a study file with `family = "ann"`, with the same defaults. A
    parameter with one value per layer takes one value for all layers, or a sequence.

    Grey values (uint8) are normalised as in a study. Other real numbers are treated as float32
    images in some unit: `normalization="symmetric"` maps the range of the training data to (-1, 1),
    "standard" gives them mean 0 and deviation 1, one scale for all columns. A table whose columns
    have different units needs a StandardScaler in front, as for any network.

    Parameters
    ----------
    {parameters}
    validation_fraction : float, default=0.1
        Share of the samples, stratified, that is held out when `patience` is given; without
        `patience` all samples are trained on.
    random_state : int, RandomState instance or None, default=None
        Decides first weights, order, augmentation, dropout and the held-out part.

    Attributes
    ----------
    classes_ : (classes,) array
        The labels, sorted.
    image_size_ : (rows, columns)
        Size of the images of the fit.
    history_ : tuple of EpochMetrics
        Loss and accuracy of each epoch.
    best_epoch_ : int
        The epoch whose weights are kept, from 1; the last one without `patience`.
    n_features_in_ : int
        Pixels of an image.
    """


class CNNClassifier(NetworkClassifier, network=CNNConfig):
    """Blocks of 'same' convolutions (convolution, batch norm, activation), pooled, then a head.

    The parameters are those of a study file with `family = "cnn"`, with the same defaults. Images,
    attributes and the parameters of the training are as in `ANNClassifier`.

    Parameters
    ----------
    {parameters}
    validation_fraction : float, default=0.1
        Share of the samples, stratified, that is held out when `patience` is given.
    random_state : int, RandomState instance or None, default=None
        Decides first weights, order, augmentation, dropout and the held-out part.
    """
