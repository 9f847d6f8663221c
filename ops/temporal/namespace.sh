#!/bin/sh
# Creates the namespace and the search attributes of the orders. Safe to repeat.
set -eu

temporal operator namespace describe --namespace default >/dev/null 2>&1 ||
    temporal operator namespace create --namespace default --retention 7d

known=$(temporal operator search-attribute list --namespace default)
for name in OrderStatus Exchange Symbol Strategy Side; do
    case "$known" in
    *" $name "*) ;;
    *)
        temporal operator search-attribute create --namespace default \
            --name "$name" --type Keyword
        ;;
    esac
done
