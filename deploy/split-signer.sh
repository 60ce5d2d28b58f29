#!/bin/sh
# Gives the signer of a new instance a directory, a user and a unit of its own, as
# production wants it (docs/OPERATE.md). Run it as root, once, after `inkan init` and
# before the units start for the first time:
#
#   deploy/split-signer.sh [EDGE-DIR [SIGNER-DIR]]
#
# The signer gets a copy of inkan.toml and of the CA certificates: what it lints against
# is not for the edge to change. The passphrase of the vault becomes a credential, sealed
# for this machine (TPM or host key). It is shown nowhere; keep another copy of it where
# the vault's backup is not.
set -eu
umask 077

edge=${1:-/var/lib/inkan}
signer=${2:-/var/lib/inkan-signer}
credential=/etc/credstore.encrypted/inkan-passphrase
socket=/run/inkan-signer/signer.sock

fail() {
	echo "split-signer: $1" >&2
	exit 1
}

[ "$(id -u)" -eq 0 ] || fail "must be run as root"
[ -f "$edge/signer/passphrase" ] || fail "$edge/signer/passphrase is not there: no instance, or separated already"
[ ! -e "$signer/signer" ] || fail "$signer/signer is there already"
[ ! -e "$credential" ] || fail "$credential is there already"
uid=$(id -u inkan)

# set FILE KEY VALUE: one key of the section [signer], which init wrote.
set_key() {
	sed -i "/^\[signer\]/,/^\[/ s|^\( *$2 = \).*|\1$3|" "$1"
	grep -q "^ *$2 = $3\$" "$1" || fail "$1 has no key signer.$2"
}

install -d -m 0700 "$(dirname "$credential")"
systemd-creds encrypt --name=inkan-passphrase "$edge/signer/passphrase" "$credential"

install -d -m 0700 "$signer"
cp -a "$edge/signer" "$signer/signer"
rm "$signer/signer/passphrase"
for file in "$edge/inkan.toml" "$signer/inkan.toml"; do
	[ -e "$file" ] || cp "$edge/inkan.toml" "$file"
	set_key "$file" child false
	set_key "$file" socket "\"$socket\""
	set_key "$file" edge_user "$uid"
done
cp -R "$edge/ca" "$signer/ca"
chown -R inkan-signer:inkan-signer "$signer"
chmod -R go= "$signer"

shred -u "$edge/signer/passphrase"
rm -r "$edge/signer"
echo "The signer is in $signer. Start it with: systemctl enable --now inkan-signer inkan"
