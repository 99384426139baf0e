#!/bin/bash
# Prints an admin key, as the script of the official image does.
set -e
. ./read_credentials.sh
exec ./convex-local-backend keygen admin-key --instance-name "$INSTANCE_NAME" --instance-secret "$INSTANCE_SECRET"
