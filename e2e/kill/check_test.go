package kill

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"inkan/internal/store"
)

// never are rows that no death may bring about, once everything has been finished.
var never = []struct{ what, count string }{
	{"issued requests without exactly one certificate", `SELECT COUNT(*) FROM request r WHERE state = 'issued'
		AND (SELECT COUNT(*) FROM certificate c WHERE c.request = r.id AND c.serial = r.serial) <> 1`},
	{"certificates of requests that are not issued", `SELECT COUNT(*) FROM certificate c JOIN request r ON r.id = c.request WHERE r.state <> 'issued'`},
	{"certificates without an intent that is done", `SELECT COUNT(*) FROM certificate c
		WHERE NOT EXISTS (SELECT 1 FROM intent i WHERE i.serial = c.serial AND i.state = 'done' AND i.request = c.request)`},
	{"intents that are done without a certificate", `SELECT COUNT(*) FROM intent i WHERE state = 'done'
		AND NOT EXISTS (SELECT 1 FROM certificate c WHERE c.serial = i.serial)`},
	{"intents given up", `SELECT COUNT(*) FROM intent WHERE state = 'abandoned'`},
	{"keys held for a certificate of another key", `SELECT COUNT(*) FROM sealed_key k JOIN certificate c ON c.request = k.request
		WHERE k.request <> '' AND k.stage <> 'destroyed' AND k.spki_sha256 <> c.spki_sha256`},
	{"keys held twice", `SELECT COUNT(*) FROM (SELECT spki_sha256 FROM sealed_key GROUP BY spki_sha256 HAVING COUNT(*) > 1) twice`},
	{"requests with a letter whose key is neither held nor destroyed", `SELECT COUNT(*) FROM request r WHERE state = 'issued' AND csr IS NULL
		AND (SELECT COUNT(*) FROM sealed_key k WHERE k.request = r.id AND k.stage IN ('held', 'destroyed')) <> 1`},
	{"requests with a letter but no reference ID", `SELECT COUNT(*) FROM request r WHERE state = 'issued' AND csr IS NULL
		AND NOT EXISTS (SELECT 1 FROM reference f WHERE f.request = r.id)`},
	{"certificates revoked for good whose key is still held", `SELECT COUNT(*) FROM certificate c JOIN sealed_key k ON k.request = c.request
		WHERE c.request <> '' AND c.revoked_at <> 0 AND c.reason <> 6 AND k.stage <> 'destroyed'`},
	{"revoked certificates of people who hear nothing of it", `SELECT COUNT(*) FROM certificate c JOIN request r ON r.id = c.request
		WHERE c.revoked_at <> 0 AND r.email <> '' AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.request = r.id AND o.kind = 'revoked')`},
	{"failed requests", `SELECT COUNT(*) FROM request WHERE state = 'failed'`},
	{"idempotency keys used twice", `SELECT COUNT(*) FROM (SELECT idempotency FROM request WHERE idempotency <> ''
		GROUP BY client_id, idempotency HAVING COUNT(*) > 1) twice`},
	{"grants whose count is not that of their requests", `SELECT COUNT(*) FROM issue_grant g
		WHERE used <> (SELECT COUNT(*) FROM request r WHERE r.grant_id = g.id)`},
}

// begun is what a start has to finish.
const begun = `SELECT (SELECT COUNT(*) FROM intent WHERE state = 'open')
	+ (SELECT COUNT(*) FROM request WHERE state IN ('approved', 'generating', 'issuing'))
	+ (SELECT COUNT(*) FROM sealed_key WHERE stage = 'taken')`

func (p *plant) count(query string) (int, error) {
	var n int
	err := p.db.QueryRow(query).Scan(&n)
	return n, err
}

// check checks the invariants of an instance that has been started again.
func (p *plant) check() error {
	err := eventually(time.Minute, func() error {
		n, err := p.count(begun)
		if n != 0 {
			return fmt.Errorf("%d things that were begun are not finished", n)
		}
		return err
	})
	if err != nil {
		return err
	}
	var found []error
	for _, row := range slices.Concat(never, neverOfHolders) {
		n, err := p.count(row.count)
		if err != nil {
			return fmt.Errorf("%s: %w", row.what, err)
		}
		if n != 0 {
			found = append(found, fmt.Errorf("%d %s", n, row.what))
		}
	}
	p.catch()
	found = append(found, p.checkJournal(), p.checkLists())
	_, err = p.run("audit", "verify")
	return errors.Join(append(found, err)...)
}

// entry is a line of the signer's journal.
type entry struct {
	Kind, Issuer, Serial, TBS, Root string
	Number, Size                    int64
}

// journal reads all segments; those of a signer at work may change while they are read.
func (p *plant) journal() ([]entry, error) {
	var raw []byte
	for again := true; again; {
		closed, err := filepath.Glob(filepath.Join(p.dir, "signer", "journal.0*"))
		if err != nil {
			return nil, err
		}
		raw = raw[:0]
		for _, path := range append(closed, filepath.Join(p.dir, "signer", "journal")) { // in order
			part, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			raw = append(raw, part...)
		}
		after, err := filepath.Glob(filepath.Join(p.dir, "signer", "journal.0*"))
		if err != nil {
			return nil, err
		}
		again = len(after) != len(closed)
	}
	var all []entry
	for line := range bytes.Lines(raw) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		var e entry
		err := json.Unmarshal(line, &e)
		if err != nil {
			return nil, fmt.Errorf("line %d of the journal: %w", len(all)+1, err)
		}
		all = append(all, e)
	}
	return all, nil
}

// checkJournal: nothing was signed that was not stored before, nothing is stored that
// was not signed, and no number was used twice: a call whose answer was lost is made once
// more, and then the very same CRL is signed again.
func (p *plant) checkJournal() error {
	entries, err := p.journal()
	if err != nil {
		return err
	}
	intents, err := p.intents()
	if err != nil {
		return err
	}
	var found []error
	signed, lists, size := map[string]string{}, map[string]entry{}, int64(0)
	for _, e := range entries {
		switch e.Kind {
		case "sign":
			if intents[e.Serial] != e.TBS {
				found = append(found, fmt.Errorf("%s was signed, but not as it was stored", e.Serial))
			}
			signed[e.Serial] = e.TBS
		case "crl":
			last := lists[e.Issuer]
			if e.Number < last.Number || e.Number == last.Number && e.TBS != last.TBS {
				found = append(found, fmt.Errorf("CRL %d of %s (%s) was signed after %d (%s)", e.Number, e.Issuer, e.TBS, last.Number, last.TBS))
			}
			lists[e.Issuer] = e
		case "tree":
			if e.Size < size {
				found = append(found, fmt.Errorf("tree %d was signed after %d", e.Size, size))
			}
			size = e.Size
		}
	}
	for serial := range intents {
		if signed[serial] == "" {
			found = append(found, fmt.Errorf("certificate %s is stored, but the journal does not know it", serial))
		}
	}
	return errors.Join(found...)
}

// intents gives the hash of what was to be signed, by serial; all are done by now.
func (p *plant) intents() (map[string]string, error) {
	rows, err := p.db.Query(`SELECT serial, tbs FROM intent WHERE state = 'done'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]string{}
	for rows.Next() {
		var serial string
		var tbs []byte
		err = rows.Scan(&serial, &tbs)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(tbs)
		all[serial] = hex.EncodeToString(sum[:])
	}
	return all, rows.Err()
}

// checkLists: the published CRL is one that the signer signed, and no number came
// twice or fell, in the order of commits.
func (p *plant) checkLists() error {
	rows, err := p.db.Query(`SELECT subject, body FROM audit WHERE kind = 'crl.published' ORDER BY idx`)
	if err != nil {
		return err
	}
	defer rows.Close()
	last := map[string]int64{}
	for rows.Next() {
		var issuer string
		var body []byte
		err = rows.Scan(&issuer, &body)
		if err != nil {
			return err
		}
		var record struct{ Number int64 }
		err = json.Unmarshal(body, &record)
		if err != nil {
			return err
		}
		if record.Number <= last[issuer] {
			return fmt.Errorf("CRL %d of %s was published after %d", record.Number, issuer, last[issuer])
		}
		last[issuer] = record.Number
	}
	err = rows.Err()
	if err == nil {
		_, err = p.crl()
	}
	return err
}

// checkPromises: what clients were told is still true, all of it, and the journal is
// whole through all its segments.
func (p *plant) checkPromises() error {
	var found []error
	for _, o := range p.orders {
		found = append(found, persist(func() error { return p.post(o) }))
	}
	for serial := range p.revoked {
		found = append(found, persist(func() error { return p.everywhere(serial) }))
	}
	for serial, reason := range p.standing {
		found = append(found, persist(func() error { return p.shows(serial, reason) }))
	}
	_, err := p.run("signer", "verify-journal")
	return errors.Join(append(found, err)...)
}

// clear begins every private key of a holder in clear, as PKCS#8 of P-256 encodes it.
var clearKey, _ = hex.DecodeString("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420")

// checkFiles: no private key lies in clear in any file, the database's included.
func (p *plant) checkFiles() error {
	places := []string{p.dir, p.log.Name()}
	if p.engine == store.PostgreSQL {
		data, err := p.postgresData()
		if err != nil {
			return err
		}
		places = append(places, data)
	}
	var found []error
	files := 0
	for _, place := range places {
		err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a file of the database's that has just gone
			}
			files++
			if bytes.Contains(raw, clearKey) {
				found = append(found, fmt.Errorf("%s holds a private key in clear", path))
			}
			own := filepath.Dir(path) == filepath.Join(p.dir, "edge") || strings.HasSuffix(path, ".key.pem")
			if bytes.Contains(raw, []byte("PRIVATE KEY-----")) && !own {
				found = append(found, fmt.Errorf("%s holds a private key in clear", path))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if files < 20 {
		found = append(found, fmt.Errorf("looked at %d files only", files))
	}
	return errors.Join(found...)
}

// postgresData finds the files of the server, which belong to the tests.
func (p *plant) postgresData() (string, error) {
	u, err := url.Parse(p.dsn)
	if err != nil {
		return "", err
	}
	return filepath.Join(u.Query().Get("host"), "data"), nil
}
