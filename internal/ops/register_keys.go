package ops

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// references compares the verifiers of reference IDs: one that is put back makes an old
// letter work again.
func (c *comparison) references(after, upTo string, requests []pki.Request, history map[string][]event) error {
	rows, err := c.tx.ReferencesBetween(after, upTo)
	if err != nil {
		return err
	}
	stored := byKey(rows, func(r store.Reference) string { return r.Request })
	for _, r := range requests {
		told := toldOfReference(history[r.ID], r.Kind == pki.Renewal)
		row, ok := stored[r.ID]
		delete(stored, r.ID)
		switch {
		case !ok && told == nil:
		case !ok:
			c.deviate("reference", r.ID, "")
		default:
			if row.Sealed == nil {
				delete(told, "sealed") // gone by the sweep: nobody can read it any more
			}
			have := columns{"verifier": row.ContentAs(told["verifier"]), "sealed": row.SealedHash()}
			have.at("voided_at", row.Voided)
			c.compare("reference", r.ID, have, told)
		}
	}
	for request := range stored {
		c.deviate("reference", request, "")
	}
	return nil
}

// toldOfReference is what the records say of a request's reference ID; nil where it has
// none. "verifier" stands for all that checks an ID. What is sealed is gone with the
// dispatch, and with the key.
func toldOfReference(history []event, renewal bool) columns {
	var told columns
	issued := false
	for _, e := range history {
		switch {
		case (e.Kind == "request.issuing" || e.Kind == "reference.drawn") && (e.Erased || e.facts.Reference != ""):
			if e.Erased {
				told = columns{}
				continue
			}
			told = columns{"verifier": e.facts.Reference, "sealed": e.facts.Sealed}
			told.at("voided_at", time.Time{})
		case e.Kind == "request.issued":
			issued = true
		case told == nil:
		case e.Kind == "letter.dispatched", e.Kind == "key.destroyed" && (issued || !renewal):
			told["sealed"] = ""
		}
	}
	return told
}

// keysOf compares the keys that requests took from the pool.
func (c *comparison) keysOf(requests []pki.Request, history map[string][]event) error {
	told := map[string]columns{}
	var ids []string
	for _, r := range requests {
		for id, key := range toldOfKeys(history[r.ID]) {
			told[id] = key
			ids = append(ids, id)
		}
	}
	rows, err := c.tx.Keys(ids)
	if err != nil {
		return err
	}
	stored := byKey(rows, func(k store.SealedKey) string { return k.ID })
	for _, id := range ids {
		row, ok := stored[id]
		if !ok {
			c.deviate("sealed_key", id, "")
			continue
		}
		have := columns{"origin": row.OriginAs(told[id]["origin"]), "stage": row.Stage, "epoch": row.Epoch, "blob": row.BlobHash()}
		have.at("destroyed_at", row.Destroyed)
		c.compare("sealed_key", id, have, told[id])
	}
	return nil
}

// toldOfKeys is what the records say of the keys that a request took, by their IDs.
// "origin" stands for all that never changes of one.
func toldOfKeys(history []event) map[string]columns {
	told := map[string]columns{}
	var living columns
	for _, e := range history {
		switch e.Kind {
		case "request.generating":
			if e.facts.Key == "" {
				continue
			}
			living = columns{"origin": e.facts.KeyOrigin, "stage": "taken", "epoch": e.facts.Epoch, "blob": e.facts.Blob}
			living.at("destroyed_at", time.Time{})
			told[e.facts.Key] = living
		case "request.issuing", "letter.extended":
			if living == nil {
				continue
			}
			living["stage"], living["epoch"], living["blob"] = "held", e.facts.Epoch, e.facts.Blob
			if e.Erased {
				delete(living, "epoch")
				delete(living, "blob")
			}
		case "key.destroyed":
			if living == nil {
				continue
			}
			living["stage"], living["blob"] = "destroyed", ""
			living.at("destroyed_at", e.At)
			living = nil
		}
	}
	return told
}

// keys looks for keys that no record of their request tells of, and for those that the
// register of public keys does not have. What the pool holds is in no record: the signer
// opens it, and refuses a key that is not the public one.
func (c *comparison) keys() error {
	emptied, err := c.history([]string{"pool"})
	if err != nil {
		return err
	}
	ended := map[string]bool{}
	for _, e := range emptied["pool"] {
		ended[micros(e.At)] = true
	}
	list := func(after string) ([]store.SealedKey, error) { return c.tx.KeysAfter(after, page) }
	return pages(c, list, func(k store.SealedKey) string { return k.ID }, func(rows []store.SealedKey) error {
		var hashes, requests []string
		for _, k := range rows {
			hashes = append(hashes, k.SPKISHA256)
			if k.Request != "" {
				requests = append(requests, k.Request)
			}
		}
		entries, err := c.tx.PublicKeys(hashes)
		if err != nil {
			return err
		}
		owners := byKey(entries, func(k store.PublicKey) string { return k.SPKISHA256 })
		history, err := c.history(requests, "request.generating")
		if err != nil {
			return err
		}
		for _, k := range rows {
			if hashHex(k.SPKI) != k.SPKISHA256 {
				c.deviate("sealed_key", k.ID, "spki")
			}
			if owners[k.SPKISHA256].Owner != "key/"+k.ID {
				c.deviate("public_key", k.SPKISHA256, "owner")
			}
			whose := k.Request == "" && (k.Stage == "pool" && k.Destroyed.IsZero() || k.Stage == "destroyed" && ended[micros(k.Destroyed)])
			if !whose && !tookKey(history[k.Request], k.ID) {
				c.deviate("sealed_key", k.ID, "")
			}
		}
		return nil
	})
}

// tookKey says whether the records of a request tell of a key, or may: the body of one
// was erased.
func tookKey(history []event, id string) bool {
	for _, e := range history {
		if e.Kind == "request.generating" && (e.Erased || e.facts.Key == id) {
			return true
		}
	}
	return false
}

// ownKeys gives what the records say of the keys of our own certificates: who has each, by
// its hash. A key whose record has no body any more is told by the certificate.
func (c *comparison) ownKeys() (map[string]string, error) {
	intents, err := c.tx.OtherIntents()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for part := range slices.Chunk(intents, page) {
		var serials []string
		for _, i := range part {
			if i.Request == "" {
				serials = append(serials, i.Serial)
			}
		}
		history, err := c.history(serials, "certificate.intent")
		if err != nil {
			return nil, err
		}
		for _, serial := range serials {
			hash, err := c.ownKey(serial, history[serial])
			if err != nil {
				return nil, err
			}
			if hash != "" {
				out[hash] = "certificate/" + serial
			}
		}
	}
	return out, nil
}

func (c *comparison) ownKey(serial string, history []event) (string, error) {
	for _, e := range history {
		if !e.Erased {
			return e.facts.SPKISHA256, nil
		}
	}
	cert, err := c.tx.Certificate(serial)
	if errors.Is(err, pki.ErrNotFound) {
		return "", nil
	}
	return cert.SPKISHA256, err
}

// publicKeys compares the register of all public keys with the requests that brought a
// key of their own, and with our own certificates. StrayRows compares it with the keys
// made here.
func (c *comparison) publicKeys() error {
	own, err := c.ownKeys()
	if err != nil {
		return err
	}
	err = c.registered(own)
	for hash := range own { // that were not met
		c.deviate("public_key", hash, "owner")
	}
	return err
}

// registered goes through the register, and takes from own what it meets there.
func (c *comparison) registered(own map[string]string) error {
	list := func(after string) ([]store.PublicKey, error) { return c.tx.PublicKeysAfter(after, page) }
	return pages(c, list, func(k store.PublicKey) string { return k.SPKISHA256 }, func(rows []store.PublicKey) error {
		c.report.Rows += int64(len(rows))
		var ids []string
		for _, k := range rows {
			id, ok := strings.CutPrefix(k.Owner, "request/")
			if ok {
				ids = append(ids, id)
			}
		}
		requests, err := c.tx.RequestsOf(ids)
		if err != nil {
			return err
		}
		known := byKey(requests, func(r pki.Request) string { return r.ID })
		for _, k := range rows {
			if strings.HasPrefix(k.Owner, "key/") {
				continue
			}
			if own[k.SPKISHA256] == k.Owner {
				delete(own, k.SPKISHA256)
				continue
			}
			r := known[strings.TrimPrefix(k.Owner, "request/")]
			if !strings.HasPrefix(k.Owner, "request/") || csrKey(r) != k.SPKISHA256 {
				c.deviate("public_key", k.SPKISHA256, "owner")
			}
		}
		return nil
	})
}

// claims looks for the keys that requests brought and that were to be certified.
func (c *comparison) claims(requests []pki.Request, history map[string][]event) error {
	owners := map[string]string{}
	var hashes []string
	for _, r := range requests {
		meant := slices.ContainsFunc(history[r.ID], func(e event) bool { return e.Kind == "request.issuing" })
		if meant && !r.NeedsKey() {
			hash := csrKey(r)
			owners[hash] = "request/" + r.ID
			hashes = append(hashes, hash)
		}
	}
	entries, err := c.tx.PublicKeys(hashes)
	if err != nil {
		return err
	}
	stored := byKey(entries, func(k store.PublicKey) string { return k.SPKISHA256 })
	for _, hash := range hashes {
		if stored[hash].Owner != owners[hash] {
			c.deviate("public_key", hash, "owner")
		}
	}
	return nil
}

// csrKey is the hash of the public key that a request brought; "" where it brought none.
func csrKey(r pki.Request) string {
	if r.NeedsKey() {
		return ""
	}
	csr, err := x509.ParseCertificateRequest(r.Application.CSR)
	if err != nil {
		return ""
	}
	spki, err := x509.MarshalPKIXPublicKey(csr.PublicKey) // as it is certified
	if err != nil {
		return ""
	}
	return hashHex(spki)
}
