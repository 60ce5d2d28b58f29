#!/bin/sh
# What an administrator does to install Inkan as two units, and what must hold then. Every
# step says its name; the first that fails ends it, with the units' journal.
set -eu

step() { echo "== $1"; }
fail() {
	echo "FAIL: $1"
	systemctl status --no-pager -l inkan inkan-signer || true
	journalctl --no-pager -n 60 || true
	exit 1
}
# refuse COMMAND...: the command must fail, and not for want of the command.
refuse() {
	command -v "$1" >/dev/null || fail "$1 is not here"
	if "$@" >/tmp/refused 2>&1; then fail "not refused: $*"; fi
}
edge() { runuser -u inkan -- "$@"; }
ready() {
	tries=0
	until curl -sf http://127.0.0.1:8090/ready >/tmp/ready; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || fail "not ready"
		sleep 0.1
	done
}

step "units are right"
systemd-sysusers
systemd-tmpfiles --create inkan.conf
systemd-analyze verify --recursive-errors=no inkan.service inkan-signer.service

nft -c -f /share/deploy/inkan.nft || fail "inkan.nft"

step "without an instance, nothing starts"
refuse systemctl start inkan.service

step "init and separation"
edge inkan init --dir /var/lib/inkan --config /share/live.toml >/tmp/init
sh /share/deploy/split-signer.sh
refuse sh /share/deploy/split-signer.sh

step "start"
systemctl start inkan.service || fail "inkan.service does not start"
ready
[ "$(systemctl is-active inkan-signer.service)" = active ] || fail "the signer is not active"
signer=$(systemctl show -p MainPID --value inkan-signer)
front=$(systemctl show -p MainPID --value inkan)
[ "$(ps -o user:20= -p "$signer")" = inkan-signer ] || fail "the signer is of user $(ps -o user:20= -p "$signer")"
[ "$(ps -o user:20= -p "$front")" = inkan ] || fail "the edge is of user $(ps -o user:20= -p "$front")"

step "modes"
[ "$(stat -c '%a %U %G' /run/inkan-signer)" = "2710 inkan-signer inkan" ] || fail "socket's directory: $(stat -c '%a %U %G' /run/inkan-signer)"
[ "$(stat -c '%a %U %G' /run/inkan-signer/signer.sock)" = "660 inkan-signer inkan" ] || fail "socket: $(stat -c '%a %U %G' /run/inkan-signer/signer.sock)"
for dir in /var/lib/inkan /var/lib/inkan-signer; do
	[ -z "$(find "$dir" ! -type l \( -perm /077 \))" ] || fail "open to others: $(find "$dir" -perm /077)"
done
[ ! -e /var/lib/inkan/signer ] || fail "the vault is still with the edge"

step "the edge's user reaches the signer, nobody else does"
edge inkan audit verify --dir /var/lib/inkan || fail "the signer does not answer the edge's user"
ask='curl -s --max-time 20 --unix-socket /run/inkan-signer/signer.sock http://signer/'
refuse setpriv --reuid nobody --regid nogroup --clear-groups $ask
[ -z "$(journalctl -u inkan-signer --no-pager | grep signer.peer)" ] || fail "nobody got as far as the signer"
refuse setpriv --reuid nobody --regid nogroup --groups "$(id -g inkan)" $ask
refuse $ask
tries=0
until [ "$(journalctl -u inkan-signer --no-pager | grep -c signer.peer)" -eq 2 ]; do
	tries=$((tries + 1))
	[ $tries -lt 100 ] || fail "the signer tells of $(journalctl -u inkan-signer --no-pager | grep -c signer.peer) refused connections, want nobody's and root's"
	sleep 0.1
done

step "what is the signer's own"
refuse edge ls /var/lib/inkan-signer
refuse edge cat "/proc/$signer/maps"
refuse edge cat "/proc/$signer/environ"
refuse edge cat "/proc/$front/environ"
refuse edge ls /run/credentials/inkan-signer.service
grep -q '^Max core file size *0 *0 ' "/proc/$signer/limits" || fail "the signer may dump core"
grep -q '^Max core file size *0 *0 ' "/proc/$front/limits" || fail "the edge may dump core"
# Where the machine that runs this test may not give the signer unlimited locked memory
# (no CAP_SYS_RESOURCE), the signer must say so instead.
locked=$(awk '/^VmLck/ {print $2}' "/proc/$signer/status")
if grep -q '^Max locked memory *unlimited *unlimited ' "/proc/$signer/limits"; then
	[ "$locked" -gt 1000 ] || fail "the signer has locked $locked kB"
else
	echo "locked memory is limited on this machine"
	journalctl -u inkan-signer --no-pager | grep -q "memory is not locked" || fail "the signer does not say that its memory is not locked"
fi
[ "$(nsenter -t "$signer" -n ip -o link | grep -vc ' lo: \|: lo:')" -eq 0 ] || fail "the signer has a network: $(nsenter -t "$signer" -n ip -o link)"

step "no secret on command lines or in environments"
for pid in $signer $front; do
	if tr '\0' '\n' <"/proc/$pid/environ" | grep -iE 'pass|pin|secret|key' | grep -v '^CREDENTIALS_DIRECTORY='; then fail "environment of $pid"; fi
done

step "a service does not change its configuration"
refuse nsenter -t "$front" -m sh -c 'echo >>/var/lib/inkan/inkan.toml'
grep -q 'Read-only' /tmp/refused || fail "inkan.toml: $(cat /tmp/refused)"
refuse nsenter -t "$signer" -m sh -c 'echo >>/var/lib/inkan-signer/inkan.toml'
refuse nsenter -t "$front" -m sh -c 'ls /var/lib/inkan-signer/signer'
refuse nsenter -t "$signer" -m sh -c 'ls /var/lib/inkan/edge'

step "check-config --production sees it"
edge inkan check-config --production --json --dir /var/lib/inkan >/tmp/production 2>/dev/null || true
for check in mode edge_user signer_user passphrase modes database_link; do
	tr -d ' \n' </tmp/production | grep -q "\"check\":\"$check\",\"verdict\":\"right\"" || fail "$check: $(cat /tmp/production)"
done

step "the signer dies, and comes back"
systemctl kill -s KILL inkan-signer
tries=0
while [ "$(systemctl show -p MainPID --value inkan-signer)" = "$signer" ] || [ "$(systemctl is-active inkan-signer)" != active ]; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || fail "the signer does not come back"
	sleep 0.1
done
ready
edge inkan audit verify --dir /var/lib/inkan || fail "the new signer does not answer"

step "abort leaves no core"
front=$(systemctl show -p MainPID --value inkan)
systemctl kill -s ABRT inkan
tries=0
while [ "$(systemctl show -p MainPID --value inkan)" = "$front" ] || [ "$(systemctl is-active inkan)" != active ]; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || fail "the edge does not come back"
	sleep 0.1
done
ready
[ -z "$(find / -xdev -name 'core*' -newer /tmp/init -type f -size +1k 2>/dev/null | grep -v '^/share\|^/proc')" ] || fail "a core file"

step "stop"
systemctl stop inkan inkan-signer
for unit in inkan inkan-signer; do
	[ "$(systemctl show -p Result --value $unit)" = success ] || fail "$unit stopped with $(systemctl show -p Result --value $unit)"
done
journalctl -u inkan --no-pager | grep -q '"draining"' || fail "the edge did not drain"
echo "== done"
