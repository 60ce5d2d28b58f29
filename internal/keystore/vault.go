package keystore

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"inkan/internal/pki"
)

// The modes of an instance. The mode is inside the vault: who edits the database
// or a file cannot turn a demo into production (threat PL1).
const (
	ModeDemo = "demo"
	ModeLive = "live"
)

// scryptLogN is log2 of scrypt's N: about half a second and 128 MiB a guess.
const scryptLogN = 17

// InitParams is what a new vault is made for.
type InitParams struct {
	Mode       string // ModeDemo or ModeLive
	InstanceID string // lower-case letters, digits, hyphens
	WorkFactor int    // log2 of scrypt's N; 0: 17. Less is for demos and tests alone
}

// content is the plaintext of vault.age.
type content struct {
	Version   int               `json:"version"`
	Mode      string            `json:"mode"`
	Instance  string            `json:"instance"`
	KEK       []byte            `json:"kek"`
	IDKeys    map[string][]byte `json:"idKeys"` // by kid
	IDKey     string            `json:"idKey"`  // kid in use for new verifiers
	AuditSeed []byte            `json:"auditSeed"`
	Identity  string            `json:"identity"` // age X25519, opens keys/*
	LogN      int               `json:"logN"`
}

// Vault is an opened vault. It is safe for concurrent use.
type Vault struct {
	dir      string
	identity *age.X25519Identity
	audit    auditKey
	argon    chan struct{} // as many Argon2id runs at once as there are cores

	mu        sync.Mutex
	content   content
	epochs    map[string][]byte
	destroyed map[string]bool
}

var instanceForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// InitVault makes a vault in dir, which it creates if need be, and gives the
// generated passphrase: 26 letters, 130 bits. It refuses a directory that has one.
func InitVault(dir string, p InitParams) (pki.Secret, error) {
	if p.WorkFactor == 0 {
		p.WorkFactor = scryptLogN
	}
	switch {
	case p.Mode != ModeDemo && p.Mode != ModeLive:
		return "", pki.E(pki.Invalid, "vault.init_mode").With("Mode", p.Mode)
	case !instanceForm.MatchString(p.InstanceID):
		return "", pki.E(pki.Invalid, "vault.init_instance").With("Instance", p.InstanceID)
	case p.Mode == ModeLive && p.WorkFactor < scryptLogN:
		return "", pki.E(pki.Invalid, "vault.init_work")
	}
	for _, d := range []string{dir, filepath.Join(dir, keysDir), filepath.Join(dir, epochsDir)} {
		err := os.MkdirAll(d, 0o700)
		if err != nil {
			return "", fmt.Errorf("init vault: %w", err)
		}
		err = os.Chmod(d, 0o700) // whatever was there before, or a strange umask
		if err != nil {
			return "", fmt.Errorf("init vault: %w", err)
		}
	}
	_, err := os.Lstat(filepath.Join(dir, vaultFile))
	if err == nil {
		return "", pki.E(pki.Conflict, "vault.exists")
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("init vault: %w", err)
	}
	c := content{
		Version: 1, Mode: p.Mode, Instance: p.InstanceID, LogN: p.WorkFactor,
		KEK: random(32), IDKeys: map[string][]byte{"1": random(32)}, IDKey: "1",
		AuditSeed: random(ed25519.SeedSize), Identity: identity.String(),
	}
	passphrase := pki.Secret(rand.Text())
	err = writeContent(dir, c, passphrase, true)
	if err != nil {
		return "", err
	}
	// The journal exists from the first day on, so that a missing one is noticed.
	err = writeSecret(filepath.Join(dir, journalFile), nil, true)
	if err != nil {
		return "", err
	}
	return passphrase, nil
}

func writeContent(dir string, c content, passphrase pki.Secret, fresh bool) error {
	recipient, err := age.NewScryptRecipient(passphrase.Reveal())
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	recipient.SetWorkFactor(c.LogN)
	plain, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	defer clear(plain)
	sealed, err := encrypt(plain, recipient)
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	return writeSecret(filepath.Join(dir, vaultFile), sealed, fresh)
}

// OpenVault opens the vault of dir. Refusals: vault.missing, vault.mode (somebody
// else may read or write it), vault.owner (it is another account's), vault.passphrase,
// vault.broken.
func OpenVault(dir string, passphrase pki.Secret) (*Vault, error) {
	for _, d := range []string{dir, filepath.Join(dir, keysDir), filepath.Join(dir, epochsDir)} {
		err := CheckMode(d)
		if err != nil {
			return nil, err
		}
	}
	c, err := readContent(dir, passphrase)
	if err != nil {
		return nil, err
	}
	identity, err := age.ParseX25519Identity(c.Identity)
	if err != nil {
		return nil, pki.E(pki.Internal, "vault.broken").With("File", vaultFile).Because(err)
	}
	audit, err := newAuditKey("inkan/"+c.Instance, c.AuditSeed)
	if err != nil {
		return nil, pki.E(pki.Internal, "vault.broken").With("File", vaultFile).Because(err)
	}
	return &Vault{
		dir: dir, identity: identity, audit: audit, content: c,
		argon:     make(chan struct{}, runtime.NumCPU()),
		epochs:    map[string][]byte{},
		destroyed: map[string]bool{},
	}, nil
}

func readContent(dir string, passphrase pki.Secret) (content, error) {
	sealed, err := readSecret(filepath.Join(dir, vaultFile))
	if err != nil {
		return content{}, err
	}
	identity, err := age.NewScryptIdentity(passphrase.Reveal())
	if err != nil {
		return content{}, pki.E(pki.Forbidden, "vault.passphrase").Because(err)
	}
	identity.SetMaxWorkFactor(scryptLogN + 3) // a planted file may not cost a minute
	plain, err := decrypt(sealed, identity)
	_, wrong := errors.AsType[*age.NoIdentityMatchError](err)
	if wrong {
		return content{}, pki.E(pki.Forbidden, "vault.passphrase").Because(err)
	}
	if err != nil {
		return content{}, pki.E(pki.Internal, "vault.broken").With("File", vaultFile).Because(err)
	}
	defer clear(plain)
	var c content
	err = json.Unmarshal(plain, &c)
	if err != nil || c.Version != 1 || len(c.KEK) != 32 || len(c.IDKeys[c.IDKey]) != 32 {
		// not Because(err): a JSON error may quote the plaintext
		return content{}, pki.E(pki.Internal, "vault.broken").With("File", vaultFile)
	}
	return c, nil
}

// Mode gives ModeDemo or ModeLive.
func (v *Vault) Mode() string { return v.content.Mode }

// InstanceID gives the name of the instance.
func (v *Vault) InstanceID() string { return v.content.Instance }

// RotateIDKey adds a new key for verifiers of reference IDs; verifiers made under
// older ones go on working. It returns the new kid.
func (v *Vault) RotateIDKey(passphrase pki.Secret) (string, error) {
	current, err := readContent(v.dir, passphrase) // proves the passphrase, too
	if err != nil {
		return "", err
	}
	kid := fmt.Sprint(len(current.IDKeys) + 1)
	current.IDKeys[kid] = random(32)
	current.IDKey = kid
	err = writeContent(v.dir, current, passphrase, false)
	if err != nil {
		return "", err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.content = current
	return kid, nil
}

// JournalKey is the key under which the signer chains its journal.
func (v *Vault) JournalKey() []byte {
	return derive(v.content.KEK, []byte(v.content.Instance), "inkan/journal/v1")
}

// AuditVerifierKey is the verifier key of checkpoints in the form of x/mod's note.
func (v *Vault) AuditVerifierKey() string { return v.audit.verifierKey }

// AuditOrigin names the audit tree: the first line of every checkpoint.
func (v *Vault) AuditOrigin() string { return v.audit.name }

// SignNote signs a text as a note of the audit key.
func (v *Vault) SignNote(text string) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: text}, v.audit)
	if err != nil {
		return nil, fmt.Errorf("sign note: %w", err)
	}
	return signed, nil
}

// auditKey is a note.Signer over a seed.
type auditKey struct {
	name        string
	hash        uint32
	verifierKey string
	key         ed25519.PrivateKey
}

func newAuditKey(name string, seed []byte) (auditKey, error) {
	if len(seed) != ed25519.SeedSize {
		return auditKey{}, errors.New("audit seed has a wrong length")
	}
	key := ed25519.NewKeyFromSeed(seed)
	vkey, err := note.NewEd25519VerifierKey(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		return auditKey{}, fmt.Errorf("make verifier key: %w", err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return auditKey{}, fmt.Errorf("make verifier key: %w", err)
	}
	return auditKey{name: name, hash: verifier.KeyHash(), verifierKey: vkey, key: key}, nil
}

func (a auditKey) Name() string                    { return a.name }
func (a auditKey) KeyHash() uint32                 { return a.hash }
func (a auditKey) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(a.key, msg), nil }

func encrypt(plain []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(plain)
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

func decrypt(sealed []byte, with age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), with)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxSecretFile))
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails; see crypto/rand
	return b
}
