#!/bin/sh
# A client of CAS with nothing but curl: signs in, lists calls and history, follows events.
# Usage: client.sh https://switch.example:8443 USER PASSWORD      (TANDEM_CURL="curl -k" for a self-signed certificate)
set -eu
base=$1 user=$2 password=$3
curl="${TANDEM_CURL:-curl} --silent --show-error"
number=0

# ask TOPIC MESSAGE [BODY]: sends one request and prints the reply
ask() {
    number=$((number + 1))
    body=${3:-}
    printf '{"topic":"%s","message":"%s","timestamp":%s000,"sequence-id":%d,"request-id":%d%s}' \
        "$1" "$2" "$(date +%s)" "$number" "$number" "${body:+,\"body\":$body}" |
        $curl ${token:+-H "Authorization: Bearer $token"} -H 'Content-Type: application/json' -H 'Prefer: wait=20' --data-binary @- "$base/cas"
    echo
}

token=$(ask login login "{\"user\":\"$user\",\"password\":\"$password\"}" | sed -n 's/.*"token":"\([0-9a-f]*\)".*/\1/p')
[ -n "$token" ] || { echo "signing in failed" >&2; exit 1; }
ask tel list
ask history list '{"limit":10}'
ask subscription add '{"topic":"history"}'
echo "events (ctrl-c ends):"
exec $curl --no-buffer -H "Authorization: Bearer $token" -H 'Accept: text/event-stream' "$base/cas/events"
