#!/bin/sh
# Brings Temporal's databases to the schema of this image. Safe to repeat: what is there stays.
set -eu

schemas=/etc/temporal/schema/postgresql/v12

bring_up() {
    database=$1 schema=$2
    tool="temporal-sql-tool --plugin postgres12 --ep $SQL_HOST --port 5432 --user $SQL_USER --db $database"
    $tool create
    $tool setup-schema --version 0.0
    $tool update-schema --schema-dir "$schemas/$schema/versioned"
}

bring_up temporal temporal
bring_up temporal_visibility visibility
