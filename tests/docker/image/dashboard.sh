#!/bin/bash
# A page with everything that the dashboard was told, on the port that the official image has built in.
mkdir -p /tmp/www
env | sort > /tmp/www/index.html
busybox httpd -f -p "$HOSTNAME_TO_LISTEN_ON:6791" -h /tmp/www &
trap 'kill %1; exit 0' INT TERM
wait
