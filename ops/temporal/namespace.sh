#!/bin/sh
# Creates the namespace and the search attributes of the orders, and waits until the server knows
# them: it reads both from caches, so an order that came right after their creation would be refused.
# Safe to repeat.
set -eu

attributes="OrderStatus Exchange Symbol Strategy Side"

until_it_works() {
    tries=60
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "still failing after 60 s: $*" >&2; exit 1; }
        sleep 1
    done
}

temporal operator namespace describe --namespace default >/dev/null 2>&1 ||
    temporal operator namespace create --namespace default --retention 7d
until_it_works temporal operator search-attribute list --namespace default

known=$(temporal operator search-attribute list --namespace default)
for name in $attributes; do
    case "$known" in
    *" $name "*) ;;
    *)
        temporal operator search-attribute create --namespace default \
            --name "$name" --type Keyword
        ;;
    esac
done
for name in $attributes; do
    until_it_works temporal workflow list --namespace default --query "$name = ''"
done
