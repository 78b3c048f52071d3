"""Names and hashes of the four files of Fashion-MNIST.

The test files are hashed here and opened by `bundle.evaluation` alone. `refuse_test_file` keeps
them out where a user names a file.
"""

from pathlib import Path

from fmnist_hpo.data.idx import content_hash, locate
from fmnist_hpo.errors import InputError

__all__ = ["FILES", "IMAGES", "LABELS", "refuse_test_file", "verify"]

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
# SHA-256 of Fashion-MNIST's decompressed files
FILES = {
    IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def refuse_test_file(path: Path, digest: str, instead: str) -> None:
    """Refuse a file of Fashion-MNIST's test set, whatever its name.

    Args:
        digest: of the file, SHA-256 of the decompressed content.
        instead: what to do.

    Raises:
        InputError: it is one.
    """
    if digest in (FILES[name] for name in FILES if name not in (IMAGES, LABELS)):
        raise InputError(
            f"the test set of Fashion-MNIST is sealed: only its one measurement reads it, and "
            f"{path} is a file of it; {instead}"
        )


def verify(directory: Path) -> dict[str, str]:
    """Hash all four files of Fashion-MNIST: {name: SHA-256 of the decompressed file}.

    Raises:
        InputError: a file is missing, truncated or altered.
    """
    return {
        name: content_hash(locate(directory, name), expected) for name, expected in FILES.items()
    }
