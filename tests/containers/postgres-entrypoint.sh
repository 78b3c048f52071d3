#!/bin/sh
# What the stand-in for the image postgres:18 does at its start, in the manner of the real one:
# create the database from POSTGRES_*, then serve, as a user without rights.
set -eu

export PGDATA="${PGDATA:-/var/lib/postgresql/18/docker}"
if [ "$(id -u)" = 0 ]; then
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        password=$(cat "$POSTGRES_PASSWORD_FILE") || password=
        if [ -z "$password" ]; then
            echo "error: no password for the database in $POSTGRES_PASSWORD_FILE; write one" >&2
            exit 1
        fi
        install -d -m 700 -o postgres -g postgres "$PGDATA"
        (umask 077 && printf '%s\n' "$password" > /tmp/password && chown postgres /tmp/password)
    fi
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --encoding=UTF8 --locale=C.UTF-8 --username="$POSTGRES_USER" \
        --pwfile=/tmp/password --auth-local=trust \
        --auth-host=scram-sha-256 > /dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl -w start -o "-c listen_addresses=''" > /dev/null
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl -w stop -m fast > /dev/null
fi
exec "$@"
