//go:build cgo

package keystore

import (
	"errors"
	"os"
	"sync"

	"github.com/miekg/pkcs11"

	"inkan/internal/pki"
)

const tokensBuiltIn = true

// library is a PKCS#11 library in this process. It is initialised once for all keys
// and starts anew when something was lost; sessions and handles are of one round.
type library struct {
	path string
	ctx  *pkcs11.Ctx

	mu    sync.RWMutex // held for reading by every call, for writing by a new start
	round int          // counts the starts
	down  error        // why the last start failed

	login sync.Mutex // one at a time
}

// A library keeps its state in the process, so there is one of each path, whatever the
// number of keys and vaults.
var (
	librariesMu sync.Mutex
	libraries   = map[string]*library{}
)

func openLibrary(path string) (*library, error) {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	l := libraries[path]
	if l != nil {
		return l, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, pki.E(pki.Invalid, "token.module").With("File", path).Because(err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		// It is code that runs beside the keys: whoever may write it has them.
		return nil, pki.E(pki.Forbidden, "token.module_mode").With("File", path).With("Mode", info.Mode().String())
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, pki.E(pki.Invalid, "token.module").With("File", path)
	}
	l = &library{path: path, ctx: ctx}
	l.start()
	libraries[path] = l
	return l, nil
}

// start begins a round; its caller holds mu or is alone.
func (l *library) start() {
	l.round++
	l.down = l.ctx.Initialize()
	if errors.Is(l.down, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		l.down = nil
	}
}

// restart begins another round than the one in which something was lost, unless
// somebody else has done so. Sessions, logins, also slots that a library lists once
// only: all of it is made anew, for one way of healing is one to be tested.
func (l *library) restart(lostIn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.round != lostIn {
		return
	}
	_ = l.ctx.Finalize() // what was lost may be the library itself
	l.start()
}

var errClosed = errors.New("tokens are closed")

// CloseTokens ends all sessions with tokens. A key that is used afterwards opens its
// token again.
func CloseTokens() {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	for _, l := range libraries {
		l.mu.Lock()
		if l.down == nil {
			_ = l.ctx.Finalize() // the process is about to end, or the next use starts anew
		}
		l.round++
		l.down = errClosed
		l.mu.Unlock()
	}
}

// errNoToken says that no slot has the token: it was pulled out, or is elsewhere.
var errNoToken = errors.New("no slot has the token")

// pinSource is where a PIN is read, and who remembers which was refused.
type pinSource struct {
	file  string
	vault *Vault
}

// find gives the slot of the one token that is everything that the URI says.
func (l *library) find(u tokenURI) (uint, pkcs11.TokenInfo, error) {
	slots, err := l.ctx.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, err
	}
	var slot uint
	var found []pkcs11.TokenInfo
	for _, s := range slots {
		info, err := l.ctx.GetTokenInfo(s)
		if err != nil {
			continue // a token that has just gone, or one that is not to be read; not ours
		}
		if is(u.token, info.Label) && is(u.serial, info.SerialNumber) && is(u.model, info.Model) && is(u.manufacturer, info.ManufacturerID) {
			slot, found = s, append(found, info)
		}
	}
	switch len(found) {
	case 0:
		return 0, pkcs11.TokenInfo{}, errNoToken
	case 1:
		return slot, found[0], nil
	}
	return 0, pkcs11.TokenInfo{}, pki.E(pki.Conflict, "token.many").With("Key", u.name())
}

// is compares where the URI says something.
func is(want, has string) bool { return want == "" || want == has }

// pinRefusals are the answers after which the same PIN would only bring the token
// nearer to locking itself.
var pinRefusals = []pkcs11.Error{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED,
	pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED}

// logIn logs a session in. The PIN is read anew each time and not kept. One that was
// refused is not tried again before the file has another, and the last try before a
// token locks itself is left to a person.
func (l *library) logIn(session pkcs11.SessionHandle, token pkcs11.TokenInfo, u tokenURI, source pinSource) error {
	pin, err := readPIN(source.file)
	if err != nil {
		return err
	}
	l.login.Lock()
	defer l.login.Unlock()
	was, err := source.vault.pinRefused(token.SerialNumber, pin)
	if err != nil {
		return err
	}
	if was {
		return pki.E(pki.Forbidden, "token.pin").With("Key", u.name())
	}
	if token.Flags&(pkcs11.CKF_USER_PIN_FINAL_TRY|pkcs11.CKF_USER_PIN_LOCKED) != 0 {
		return pki.E(pki.Forbidden, "token.pin_last").With("Key", u.name())
	}
	err = l.ctx.Login(session, pkcs11.CKU_USER, pin.Reveal())
	code, isCode := errors.AsType[pkcs11.Error](err)
	if isCode && code == pkcs11.CKR_USER_ALREADY_LOGGED_IN {
		return nil // by a session of another key; a login is the process's
	}
	for _, refusal := range pinRefusals {
		if isCode && code == refusal {
			err = errors.Join(err, source.vault.refusePIN(token.SerialNumber, pin))
			return pki.E(pki.Forbidden, "token.pin").With("Key", u.name()).Because(err)
		}
	}
	return err
}
