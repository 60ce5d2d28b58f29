package app

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"inkan/internal/delivery"
	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// newOperator is an operator that init makes with its certificate.
type newOperator struct {
	ID, Name string
	Roles    []pki.Role
	Account  pki.Account
	File     string // of the PKCS#12, relative to the instance directory
	Password pki.Secret
}

// ceremony makes an instance directory: configuration, vault, CAs, database, first
// operators. The CA keys are in this process only while it runs; afterwards they are
// the signer's, and the root's is a file to be carried away.
type ceremony struct {
	dir       string
	config    Config
	operators []newOperator
	// workFactor is log2 of scrypt's N for the vault; 0: the vault's default.
	workFactor int
	log        *slog.Logger
	progress   io.Writer

	undo []func() error // what was made outside the directory

	rootPassphrase pki.Secret // opens offline/root.key.age; "" in a demo, which keeps no root key
}

// run makes the instance. The directory must be empty or absent; it is empty again when
// that fails.
func (c *ceremony) run(ctx context.Context) error {
	var err error
	c.dir, err = filepath.Abs(c.dir)
	if err != nil {
		return fmt.Errorf("resolve directory: %w", err)
	}
	err = refuse(configFile, c.config.faults()...)
	if err != nil {
		return err
	}
	for _, o := range c.operators {
		err = ops.CheckOperator(pki.Operator{ID: o.ID, Name: o.Name, Roles: o.Roles})
		if err != nil {
			return err
		}
	}
	err = makeEmpty(c.dir)
	if err != nil {
		return err
	}
	defer keystore.CloseTokens()
	err = c.fill(ctx)
	if err != nil {
		// Half an instance is of no use, and stands in the way of the next try.
		for _, undo := range c.undo {
			err = errors.Join(err, undo())
		}
		return errors.Join(err, clearDir(c.dir))
	}
	return nil
}

func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// fill puts into the empty directory what belongs there.
func (c *ceremony) fill(ctx context.Context) error {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails; see crypto/rand
	instanceID := hex.EncodeToString(id)
	signerDir := inside(c.dir, c.config.Signer.Dir)
	passphrase, err := keystore.InitVault(signerDir, keystore.InitParams{Mode: c.config.Mode, InstanceID: instanceID, WorkFactor: c.workFactor})
	if err != nil {
		return err
	}
	err = os.WriteFile(inside(c.dir, c.config.Signer.PassphraseFile), []byte(passphrase.Reveal()+"\n"), 0o600)
	if err != nil {
		return fmt.Errorf("write passphrase: %w", err)
	}
	c.say("CA keys")
	rootCRL, err := c.makeCAs(signerDir, passphrase)
	if err != nil {
		return err
	}
	keystore.CloseTokens() // from here on the keys are the signer's
	err = c.config.write(filepath.Join(c.dir, configFile))
	if err != nil {
		return err
	}
	c.say("database")
	err = c.makeDatabase(ctx, instanceID, rootCRL)
	if err != nil {
		return err
	}
	c.say("operators")
	return c.makeOperators(ctx)
}

func (c *ceremony) say(what string) { _, _ = fmt.Fprintf(c.progress, "inkan: making %s\n", what) }

func makeEmpty(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return pki.E(pki.Invalid, "file.unreadable").With("File", dir).Because(err)
	}
	err = checkFileOwner(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return pki.E(pki.Invalid, "file.unreadable").With("File", dir).Because(err)
	}
	if len(entries) > 0 {
		return pki.E(pki.Conflict, "instance.not_empty").With("Dir", dir)
	}
	err = os.Chmod(dir, 0o700)
	if err != nil {
		return pki.E(pki.Invalid, "file.unreadable").With("File", dir).Because(err)
	}
	for _, sub := range []string{"ca", "edge", "offline"} {
		err = os.Mkdir(filepath.Join(dir, sub), 0o700)
		if err != nil {
			return fmt.Errorf("make %s: %w", sub, err)
		}
	}
	return nil
}

// makeCAs makes the four CAs and the root's CRL (in it is nothing: the issuing CA is
// not revoked). The three on-line keys are made in the vault, or in tokens.
func (c *ceremony) makeCAs(signerDir string, passphrase pki.Secret) ([]byte, error) {
	vault, err := keystore.OpenVault(signerDir, passphrase)
	if err != nil {
		return nil, err
	}
	cfg, keyType, begin := c.config.issuance(), pki.KeyType(c.config.Policy.CAKey), now().UTC().Truncate(time.Second)
	if c.config.Mode == "demo" {
		begin = begin.AddDate(-4, 0, 0) // its samples begin in the past
	}
	keys, certs := map[string]crypto.Signer{}, map[string]*x509.Certificate{}
	names := map[string]string{issuance.Root: c.config.Names.Root, issuance.G1: c.config.Names.Issuer,
		issuance.Operations: c.config.Names.Operations, issuance.TLS: c.config.Names.Site}
	for _, id := range caIDs {
		keys[id], err = c.makeKey(vault, id, keyType)
		if err != nil {
			return nil, fmt.Errorf("make key of %s: %w", id, err)
		}
		p := issuance.CAParams{ID: id, CommonName: names[id], Key: keys[id], NotBefore: begin}
		switch id {
		case issuance.G1:
			p.Parent, p.ParentKey = certs[issuance.Root], keys[issuance.Root]
		case issuance.TLS:
			p.PermittedDNS, p.PermittedIPs = c.config.siteNames()
		}
		certs[id], err = issuance.NewCA(p, cfg)
		if err != nil {
			return nil, err
		}
		err = writeCert(filepath.Join(c.dir, "ca", id+".pem"), certs[id])
		if err != nil {
			return nil, fmt.Errorf("write CA %s: %w", id, err)
		}
	}
	if c.config.Mode != "demo" {
		err = c.carryRootAway(keys[issuance.Root])
		if err != nil {
			return nil, err
		}
	}
	return rootCRL(certs[issuance.Root], keys[issuance.Root], cfg, now())
}

// makeKey makes the key of a CA where it is to live: in a token where the configuration
// says so, else in the vault; the root's in memory alone.
func (c *ceremony) makeKey(vault *keystore.Vault, id string, t pki.KeyType) (crypto.Signer, error) {
	place := c.config.place(c.dir, id)
	if place.InToken() {
		key, undo, err := vault.MakeTokenKey(place, t)
		if err == nil {
			c.undo = append(c.undo, undo)
		}
		return key, err
	}
	key, err := issuance.GenerateKey(t)
	if err != nil || id == issuance.Root {
		return key, err
	}
	return key, vault.AddKey(id, key)
}

// rootCRLLife is how long the root's CRL is valid; the next is a ceremony.
const rootCRLLife = 400 * 24 * time.Hour

func rootCRL(cert *x509.Certificate, key crypto.Signer, cfg issuance.Config, at time.Time) ([]byte, error) {
	root, err := issuance.NewIssuer(issuance.Root, cert, cfg)
	if err != nil {
		return nil, err
	}
	tbs, err := root.CRLTBS(at.Unix(), at, at.Add(rootCRLLife), nil)
	if err != nil {
		return nil, fmt.Errorf("encode root CRL: %w", err)
	}
	signature, err := root.SignCRL(key, tbs)
	if err != nil {
		return nil, fmt.Errorf("sign root CRL: %w", err)
	}
	return root.AssembleCRL(tbs, signature)
}

// carryRootAway writes the root's key encrypted under a passphrase that is shown
// once and kept nowhere.
func (c *ceremony) carryRootAway(key crypto.Signer) error {
	c.rootPassphrase = newPassword(32)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode root key: %w", err)
	}
	defer clear(der)
	recipient, err := age.NewScryptRecipient(c.rootPassphrase.Reveal())
	if err != nil {
		return fmt.Errorf("encrypt root key: %w", err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		return fmt.Errorf("encrypt root key: %w", err)
	}
	_, err = w.Write(der)
	err = errors.Join(err, w.Close())
	if err != nil {
		return fmt.Errorf("encrypt root key: %w", err)
	}
	return os.WriteFile(filepath.Join(c.dir, "offline", "root.key.age"), out.Bytes(), 0o600)
}

// newPassword draws letters and digits without look-alikes.
func newPassword(letters int) pki.Secret {
	var b strings.Builder
	for b.Len() < letters {
		b.WriteString(pki.NewReferenceID().Reveal())
	}
	return pki.Secret(b.String()[:letters])
}

// siteNames gives the names and addresses that the site's TLS root may vouch for.
func (c Config) siteNames() ([]string, []*net.IPNet) {
	var dns []string
	var ips []*net.IPNet
	var hosts []string
	for _, z := range c.https() {
		hosts = append(hosts, z.Hosts...)
	}
	for _, host := range hosts {
		name := hostOnly(host)
		ip := net.ParseIP(name)
		switch {
		case ip != nil && ip.IsLoopback():
			ips = append(ips, &net.IPNet{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)})
		case ip != nil && ip.To4() != nil:
			ips = append(ips, &net.IPNet{IP: ip.To4(), Mask: net.CIDRMask(32, 32)})
		case ip != nil:
			ips = append(ips, &net.IPNet{IP: ip, Mask: net.CIDRMask(128, 128)})
		default:
			dns = append(dns, name)
		}
	}
	return dns, ips
}

func hostOnly(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return host
	}
	return name
}

func (c *ceremony) makeDatabase(ctx context.Context, instanceID string, rootCRL []byte) error {
	db, err := store.Open(ctx, store.Options{DSN: c.config.dsn(c.dir), Now: now, Log: c.log})
	if err != nil {
		return err
	}
	defer db.Close()
	err = db.Migrate(ctx)
	if err != nil {
		return err
	}
	crl, err := x509.ParseRevocationList(rootCRL)
	if err != nil {
		return fmt.Errorf("parse root CRL: %w", err)
	}
	return db.Update(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Audit(pki.System("init"), "instance.made", instanceID, map[string]any{"mode": c.config.Mode})
		if err != nil {
			return err
		}
		err = tx.AddInstance(store.Instance{UUID: instanceID, Mode: c.config.Mode})
		if err != nil {
			return err
		}
		first := store.CRL{Issuer: issuance.Root, Number: crl.Number.Int64(), ThisUpdate: crl.ThisUpdate, NextUpdate: crl.NextUpdate, DER: rootCRL}
		sum := sha256.Sum256(rootCRL)
		_, _, err = tx.Audit(pki.System("init"), "crl.published", first.Issuer, map[string]any{"number": first.Number, "entries": len(crl.RevokedCertificateEntries), "sha256": hex.EncodeToString(sum[:]),
			"this": first.ThisUpdate, "next": first.NextUpdate, "compared": first.Compared})
		if err != nil {
			return err
		}
		return tx.PublishCRL(first, 0)
	})
}

// makeOperators starts the new signer and issues the operators' certificates like
// any other.
func (c *ceremony) makeOperators(ctx context.Context) error {
	i, err := open(ctx, c.dir, c.log)
	if err != nil {
		return err
	}
	defer i.close()
	stop, err := i.ensureSigner(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, o := range c.operators {
		err = i.addOperator(ctx, pki.System("init"), o)
		if err != nil {
			return err
		}
	}
	for _, issuer := range online {
		_, err = i.ca.PublishCRL(ctx, issuer)
		if err != nil {
			return err
		}
	}
	return i.ops.Checkpoint(ctx)
}

// addOperator makes key, certificate and PKCS#12 of an operator and registers it. What
// can be refused is refused before anything is made: another operator's file must
// never be written over.
func (i *instance) addOperator(ctx context.Context, by pki.Actor, o newOperator) error {
	if by.Auth != pki.AuthSystem {
		err := by.Need(pki.MayManage)
		if err != nil {
			return err
		}
	}
	return i.makeOperator(ctx, o, func(operator pki.Operator) error { return i.ops.AddOperator(ctx, by, operator) })
}

// makeOperator makes key, certificate and PKCS#12 of an operator, and has it registered.
func (i *instance) makeOperator(ctx context.Context, o newOperator, register func(pki.Operator) error) error {
	operator := pki.Operator{ID: o.ID, Name: o.Name, Roles: o.Roles, Account: o.Account}
	err := i.mayAddOperator(ctx, operator)
	if err != nil {
		return err
	}
	key, cert, err := i.ownCertificate(ctx, issuance.ProfileOperator, o.ID+" operator", nil, nil)
	if err != nil {
		return err
	}
	operator.CertSHA256 = hashHex(cert.Raw)
	p12, err := delivery.PKCS12(key, cert, []*x509.Certificate{i.cas[issuance.Operations]}, o.Password, delivery.Options{FriendlyName: "Inkan " + o.ID})
	if err != nil {
		return err
	}
	path := inside(i.dir, o.File)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.File, err)
	}
	_, err = f.Write(p12)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = register(operator)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (i *instance) mayAddOperator(ctx context.Context, o pki.Operator) error {
	err := ops.CheckOperator(o)
	if err != nil {
		return err
	}
	all, err := i.ops.Operators(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(has pki.Operator) bool { return has.ID == o.ID }) {
		return pki.E(pki.Conflict, "operator.exists").With("Operator", o.ID)
	}
	return i.ops.CheckAccount(o.Account, all)
}

// ownCertificate makes a P-256 key and has it certified under one of our own
// profiles.
func (i *instance) ownCertificate(ctx context.Context, profile, commonName string, dns []string, ips []net.IP) (crypto.Signer, *x509.Certificate, error) {
	key, err := issuance.GenerateKey(pki.P256)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	cert, err := i.ca.IssueOwn(ctx, profile, commonName, key.Public(), dns, ips)
	return key, cert, err
}
