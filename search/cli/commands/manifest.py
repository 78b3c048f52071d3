"""`manifest`: print a Kubernetes Job of a study's workers."""

import argparse
import json

from search.cli.application import Application
from search.cli.arguments import default_storage, place, positive
from search.supervisor.launchers.kubernetes import manifest

EXAMPLE = (
    "{prog} manifest cnn --workers 64 --image registry/fmnist-hpo:1 "
    "--checkpoints s3://bucket/cnn | kubectl apply -f -"
)


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("study", metavar="STUDY", help="the name of a study that `create` made")
    parser.add_argument("--workers", type=positive, metavar="N", required=True, help="pods")
    parser.add_argument("--image", required=True, help="the image of the workers")
    parser.add_argument(
        "--storage",
        metavar="URL",
        default=default_storage(),
        help="postgresql://user@host/db, as the pods reach it; its password is in a Secret",
    )
    parser.add_argument(
        "--checkpoints",
        type=place,
        metavar="PLACE",
        help="s3://bucket/prefix: the pods then get the credentials (default: as the study says)",
    )
    parser.add_argument("--threads", type=positive, metavar="N", default=1, help="of each worker")
    parser.add_argument(
        "--gpus-per-worker", type=positive, metavar="G", default=0, help="whole GPUs of each worker"
    )
    parser.add_argument("--memory", default="4Gi", help="of each worker (default: 4Gi)")
    parser.add_argument("--queue", metavar="NAME", help="of Kueue; the Job begins suspended")


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    job = manifest(
        args.study,
        workers=args.workers,
        image=args.image,
        storage=args.storage,
        checkpoints=args.checkpoints,
        threads=args.threads,
        gpus=args.gpus_per_worker,
        memory=args.memory,
        queue=args.queue,
    )
    print(json.dumps(job, indent=2))
    return 0
