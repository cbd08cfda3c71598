#!/bin/sh
# Run it by: steading run pair.toml -- sh test-pair.sh
set -eu

echo "both guests come up, and their ports are open from here"
for vm in n1 n2; do
    steading wait "$vm" --port 22
done

echo "n1 reaches n2, at $STEADING_VM_N2"
steading exec n1 "ping -c 1 $STEADING_VM_N2" >/dev/null

echo "a file of n1 survives the loss of power"
steading exec n1 'echo precious >/root/file && sync'
steading kill n1
steading start n1
steading wait n1
test "$(steading exec n1 cat /root/file)" = precious

echo "passed"
