# The credentials of the stand-in image: what the environment says, else what the files say, else new ones. What came
# out is kept in the files, as in the official image.
directory="${CREDENTIALS_DIR:-/convex/data/credentials}"
mkdir -p "$directory"
credential() {
    local value=$1 file=$directory/$2 otherwise=$3
    if [ -z "$value" ] && [ -f "$file" ]; then value=$(cat "$file"); fi
    if [ -z "$value" ]; then value=$otherwise; fi
    printf '%s' "$value" > "$file"
    printf '%s' "$value"
}
INSTANCE_NAME=$(credential "${INSTANCE_NAME:-}" instance_name convex-self-hosted)
INSTANCE_SECRET=$(credential "${INSTANCE_SECRET:-}" instance_secret "$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')")
export INSTANCE_NAME INSTANCE_SECRET
