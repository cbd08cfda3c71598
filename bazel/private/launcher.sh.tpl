#!/bin/bash
# Made for {LABEL}: hands the program what Bazel knows, and becomes it.
set -eu

if [[ {BACKEND} != local ]]; then
    echo "error: {LABEL} runs on a farm, and there is none that Steading could use yet" >&2
    echo "hint: its sibling whose name ends in _local runs on this machine" >&2
    # As the driver says that the host cannot do what is asked for.
    exit 3
fi

runfiles=${TEST_SRCDIR:-$0.runfiles}
export STEADING_DECLARED_VMS={DECLARED}
{ENVIRONMENT}
exec "$runfiles"/{DRIVER} "$@"
