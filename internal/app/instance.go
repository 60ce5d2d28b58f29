package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"inkan/internal/ca"
	"inkan/internal/clock"
	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// instance is an opened instance directory: the offices over one database and one
// signer.
type instance struct {
	dir      string
	config   Config
	log      *slog.Logger
	clock    *clock.Clock
	serving  bool         // this process is the serve of its directory
	lastSeen atomic.Int64 // number of the checkpoint in seenFile
	db       *store.DB
	signer   *keystore.Client
	cas      map[string]*x509.Certificate
	issuers  map[string]*issuance.Issuer
	profiles map[string]issuance.Profile
	ca       *ca.Service
	ra       *ra.Service
	ops      *ops.Service
}

// caIDs are the CAs of an instance; root's key is off line.
var caIDs = []string{issuance.Root, issuance.G1, issuance.Operations, issuance.TLS}

// online are the CAs whose keys the signer holds.
var online = []string{issuance.G1, issuance.Operations, issuance.TLS}

// newInstance is a directory of which nothing is open yet.
func newInstance(dir string, config Config, log *slog.Logger) *instance {
	i := &instance{dir: dir, config: config, log: log, signer: keystore.Dial(inside(dir, config.Signer.Socket))}
	i.clock = clock.New(clock.Sources{Wall: now, Elapsed: elapsed, Synchronised: synchronised,
		Running: func() bool { return !i.serving && serveRuns(i.servePath()) }})
	return i
}

// open reads the configuration, checks the directory, connects to the database and
// wires the offices. It does not need the signer to be up.
func open(ctx context.Context, dir string, log *slog.Logger) (*instance, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve directory: %w", err)
	}
	config, err := loadConfig(dir)
	if err != nil {
		return nil, err
	}
	err = checkModes(dir, config)
	if err != nil {
		return nil, err
	}
	shared, err := sharedAccounts(dir)
	if err != nil {
		return nil, err
	}
	i := newInstance(dir, config, log)
	err = i.loadCAs()
	if err != nil {
		return nil, err
	}
	err = i.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	i.wire(shared)
	return i, nil
}

func (i *instance) close() {
	_ = i.signer.Close()
	i.db.Close()
}

// openDatabase opens the database that init made; where a file is missing, none is
// begun in its place.
func (i *instance) openDatabase(ctx context.Context) error {
	err := i.connect(ctx)
	if err != nil {
		return err
	}
	err = i.checkMode(ctx)
	if err != nil {
		i.db.Close()
	}
	return err
}

func (i *instance) connect(ctx context.Context) error {
	dsn := i.config.dsn(i.dir)
	path, isFile := strings.CutPrefix(dsn, "sqlite://")
	if isFile {
		_, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return pki.E(pki.NotFound, "store.missing").With("File", path)
		}
	}
	var err error
	i.db, err = store.Open(ctx, store.Options{DSN: dsn, Now: i.clock.Now, Believe: i.clock.Believe, Head: i.head, Log: i.log})
	return err
}

// checkMode refuses a configuration whose mode is not that of the database
// (threat PL1).
func (i *instance) checkMode(ctx context.Context) error {
	err := i.db.CheckSchema(ctx)
	if err != nil {
		return err
	}
	return i.db.View(ctx, func(tx *store.Tx) error {
		in, err := tx.Instance()
		if errors.Is(err, pki.ErrNotFound) {
			return pki.E(pki.Conflict, "instance.no_rows").With("Dir", i.dir)
		}
		if err != nil {
			return err
		}
		if in.Mode != i.config.Mode {
			return pki.E(pki.Forbidden, "instance.mode").With("Config", i.config.Mode).With("Database", in.Mode)
		}
		return nil
	})
}

// loadCAs reads the CA certificates.
func (i *instance) loadCAs() error {
	i.cas, i.issuers = map[string]*x509.Certificate{}, map[string]*issuance.Issuer{}
	cfg := i.config.issuance()
	for _, id := range caIDs {
		cert, err := readCert(filepath.Join(i.dir, "ca", id+".pem"))
		if err != nil {
			return err
		}
		i.cas[id] = cert
		i.issuers[id], err = issuance.NewIssuer(id, cert, cfg)
		if err != nil {
			return pki.E(pki.Invalid, "config.invalid").With("Problems", err.Error()).Because(err)
		}
	}
	i.profiles = issuance.Profiles(cfg)
	return i.checkNames()
}

// wire puts the offices together. shared are the accounts that are no operator's.
func (i *instance) wire(shared []uint32) {
	c, now := i.config, i.clock.Now
	i.ca = ca.New(ca.Config{DB: i.db, Signer: i.signer, Issuers: i.issuers, Profiles: i.profiles,
		PoolKeyType: pki.KeyType(c.Policy.HolderKey), PoolSize: c.Policy.PoolSize,
		CRLLifetime: c.Status.CRLLifetime.Duration, CRLEvery: c.Status.CRLEvery.Duration, RenewalGrace: c.Policy.RenewalGraceDays, Now: now, Log: i.log})
	i.ra = ra.New(ra.Config{DB: i.db, Issuer: i.ca, Custody: i.signer, ActivateOnIssue: c.Policy.LettersActivate == "issue",
		KeyType: pki.KeyType(c.Policy.HolderKey), Chain: [][]byte{i.cas[issuance.G1].Raw, i.cas[issuance.Root].Raw},
		IssuerName: c.Names.Issuer, Now: now, Log: i.log})
	i.ops = ops.New(ops.Config{DB: i.db, Signer: i.signer, Saw: i.saw, Authority: i.ca, Root: i.cas[issuance.Root], Asserted: c.Mode == "demo", Login: login, Shared: shared, Now: now, BelieveClock: i.clock.Accept, Log: i.log})
}

func readCert(path string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", path).Because(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, pki.E(pki.Invalid, "file.not_certificate").With("File", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, pki.E(pki.Invalid, "file.not_certificate").With("File", path).Because(err)
	}
	return cert, nil
}

func writeCert(path string, certs ...*x509.Certificate) error {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return os.WriteFile(path, out, 0o600)
}

// checkModes refuses an instance that other accounts of the machine can read, or that is
// not of the account that runs this program (threat PL2), and names every file. What lies
// among the downloads is for everybody.
func checkModes(dir string, c Config) error {
	err := checkFileOwner(dir)
	if err != nil {
		return err // everything in it would be told, too
	}
	var found []error
	public := inside(dir, c.Downloads.Dir)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path == public && path != dir {
			return fs.SkipDir
		}
		if err == nil {
			err = checkFileMode(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file of the database's that has just gone
		}
		if othersFile(err) {
			found = append(found, err)
			return nil
		}
		return err
	})
	if err != nil && pki.ClassOf(err) == pki.Internal {
		err = pki.E(pki.Invalid, "file.unreadable").With("File", dir).Because(err)
	}
	return errors.Join(append(found, err)...)
}

// othersFile says whether an error is that of checkFileMode on a file of others.
func othersFile(err error) bool {
	code := pki.CodeOf(err)
	return code == "file.mode" || code == "file.owner"
}

// checkFileMode refuses a file that other accounts can read, or that is another account's.
func checkFileMode(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return pki.E(pki.Invalid, "file.unreadable").With("File", path).Because(err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if info.Mode().Perm()&0o077 != 0 {
		return pki.E(pki.Forbidden, "file.mode").With("File", path).With("Mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	return foreignFile(path, info)
}

// checkFileOwner refuses a file or directory that is another account's, root or not: what
// root writes into the directory of a service, the service cannot open.
func checkFileOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return pki.E(pki.Invalid, "file.unreadable").With("File", path).Because(err)
	}
	return foreignFile(path, info)
}

func foreignFile(path string, info fs.FileInfo) error {
	owner, runs, foreign := keystore.ForeignOwner(info)
	if foreign {
		return pki.E(pki.Forbidden, "file.owner").With("File", path).With("Owner", owner).With("User", runs)
	}
	return nil
}
