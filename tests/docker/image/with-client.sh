#!/bin/bash
# Stands where the official image has Convex's own binary, for a backend with a database server: connects as Convex does,
# to the database that is called like the instance, and keeps its own documents in a file.
words=("$@")
url=${words[-1]}
kept=()
for ((at = 0; at < ${#words[@]} - 1; at++)); do
    case ${words[at]} in
        --db) at=$((at + 1)) ;;
        --do-not-require-ssl) ;;
        --instance-name) name=${words[at + 1]}; kept+=("${words[at]}") ;;
        *) kept+=("${words[at]}") ;;
    esac
done
server=${url%%\?*}
query=${url#"$server"}
psql "${server%/}/${name//-/_}$query" -Atc "select 'the database answers'" || exit 1
exec /convex/convexinfra simulate-backend "${kept[@]}" /convex/data/db.sqlite3
