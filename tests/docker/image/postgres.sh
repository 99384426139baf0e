#!/bin/bash
# Starts PostgreSQL as its official image does: as root it gives the data to the server's own user and goes on as that;
# where there is no data yet, it makes the cluster, the user and the database from the variables.
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
if [ "$(id -u)" = 0 ]; then
    export POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    unset POSTGRES_PASSWORD_FILE
    mkdir -p "$PGDATA"
    chown -R 999:999 "$PGDATA" "$(dirname "$PGDATA")"
    exec setpriv --reuid 999 --regid 999 --clear-groups "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    "$bin/initdb" --username="$POSTGRES_USER" --pwfile=<(printf '%s' "$POSTGRES_PASSWORD") --auth-host=scram-sha-256 \
        --locale=C --encoding=UTF8 -D "$PGDATA" >/dev/null
    "$bin/pg_ctl" -D "$PGDATA" -o "-c listen_addresses='' -k /tmp" -w start
    "$bin/createdb" -h /tmp -U "$POSTGRES_USER" "$POSTGRES_DB"
    "$bin/pg_ctl" -D "$PGDATA" -m fast -w stop
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
fi
unset POSTGRES_PASSWORD
exec "$bin/postgres" -D "$PGDATA" -c listen_addresses='*' -k /tmp
