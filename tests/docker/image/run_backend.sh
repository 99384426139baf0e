#!/bin/bash
# The entry point of the stand-in image: fixed ports inside, everything else from the environment, as the official one.
set -e
export DATA_DIR="${DATA_DIR:-/convex/data}"
export TMPDIR="${TMPDIR:-$DATA_DIR/tmp}"
storage="${STORAGE_DIR:-$DATA_DIR/storage}"
mkdir -p "$TMPDIR" "$storage"
. ./read_credentials.sh
database=("${SQLITE_DB:-$DATA_DIR/db.sqlite3}")
if [ -n "${POSTGRES_URL:-${DATABASE_URL:-}}" ]; then database=(--db postgres-v5 "${POSTGRES_URL:-$DATABASE_URL}"); fi
# Files are in buckets where all six variables are set, and in the volume otherwise.
files=(--local-storage "$storage")
if [ -n "${AWS_REGION:-}" ] && [ -n "${S3_STORAGE_EXPORTS_BUCKET:-}" ] && [ -n "${S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET:-}" ] &&
    [ -n "${S3_STORAGE_MODULES_BUCKET:-}" ] && [ -n "${S3_STORAGE_FILES_BUCKET:-}" ] && [ -n "${S3_STORAGE_SEARCH_BUCKET:-}" ]; then
    files=(--s3-storage)
fi
# Set but empty is what the official compose file does with all variables that nobody chose.
[ -n "${DISABLE_BEACON:-}" ] || unset DISABLE_BEACON
exec ./convex-local-backend "$@" --instance-name "$INSTANCE_NAME" --instance-secret "$INSTANCE_SECRET" \
    --port 3210 --site-proxy-port 3211 --convex-origin "$CONVEX_CLOUD_ORIGIN" --convex-site "$CONVEX_SITE_ORIGIN" \
    "${files[@]}" --beacon-tag self-hosted-docker ${REDACT_LOGS_TO_CLIENT:+--redact-logs-to-client} \
    ${DO_NOT_REQUIRE_SSL:+--do-not-require-ssl} "${database[@]}"
