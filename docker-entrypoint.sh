#!/bin/sh
# Lays the database's password where libpq looks for one by itself, so that it stands neither in an
# environment nor in a command line nor in a storage's URL; then becomes fmnist-hpo.
set -eu

secret=/run/secrets/postgres_password
if [ -e "$secret" ]; then
    if [ ! -f "$secret" ] || [ ! -r "$secret" ]; then
        echo "error: the password must be a file that user $(id -u) of the container may read," \
            "got one that it may not; chmod 644 it, in a directory that is yours alone" >&2
        exit 2
    fi
    # In a .pgpass, ':' and '\' of a password stand behind a '\'.
    (umask 077 && sed -n '1s/[\\:]/\\&/g; 1s/^/*:*:*:*:/p' "$secret" > "${PGPASSFILE:=$HOME/.pgpass}")
    export PGPASSFILE
fi
exec fmnist-hpo "$@"
