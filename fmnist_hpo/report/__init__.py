"""`fmnist-hpo report`: one page on studies of images, from their storage and bundles alone."""
