package e2e

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/testkit"
)

// caller is a client that knows several nodes. It does what a client may be asked to
// do and no more: when it gets no connection, or loses it before an answer begins, or
// is told to come again later (503 with Retry-After), it repeats the call elsewhere.
type caller struct {
	http  *http.Client
	bases []string
	at    int

	*tally
	longest time.Duration // a call took, with all its repetitions
}

// tally counts the repetitions of callers.
type tally struct{ moved, later atomic.Int64 }

func (c *caller) post(path, kind string, question []byte) (int, []byte, error) {
	began := time.Now()
	defer func() { c.longest = max(c.longest, time.Since(began)) }()
	for time.Since(began) < testkit.Patience {
		base := c.bases[c.at%len(c.bases)]
		answer, err := c.http.Post(base+path, kind, bytes.NewReader(question))
		if err != nil && !unreached(err) {
			return 0, nil, err
		}
		if err != nil {
			c.at++
			c.moved.Add(1)
			time.Sleep(time.Millisecond)
			continue
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			return 0, nil, fmt.Errorf("answer broke off: %w", err)
		}
		if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "" {
			c.at++
			c.later.Add(1)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		return answer.StatusCode, text, nil
	}
	return 0, nil, errors.New("no node answers")
}

// unreached says whether a call ended before any answer began.
func unreached(err error) bool {
	for _, known := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF} {
		if errors.Is(err, known) {
			return true
		}
	}
	return strings.Contains(err.Error(), "server closed idle connection") || strings.Contains(err.Error(), "GOAWAY")
}

// caller makes a client of nodes by the port offset of the zone.
func (c *cluster) caller(t *testing.T, scheme string, offset int, h2 bool, nodes ...*Live) *caller {
	t.Helper()
	out := &caller{tally: &tally{}}
	for _, n := range nodes {
		out.bases = append(out.bases, fmt.Sprintf("%s://127.0.0.1:%d", scheme, n.PortBase+offset))
	}
	var config *tls.Config
	if scheme == "https" {
		config = c.nodes[0].clientTLS(t)
	}
	out.http = testkit.HTTP(t, config, h2)
	return out
}

func (c *cluster) apiCaller(t *testing.T, h2 bool, nodes ...*Live) *caller {
	return c.caller(t, "https", 446, h2, nodes...)
}

// order writes one order for a certificate.
func order(t *testing.T, idempotency string) []byte {
	t.Helper()
	key := testkit.Key(t)
	out, err := json.Marshal(map[string]string{"holderKind": "medical", "holderCode": "0110119153",
		"terminalName": "端末 " + idempotency, "csr": testkit.CSRText(t, key), "idempotencyKey": idempotency})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// place sends an order and gives the serial.
func (c *caller) place(order []byte) (string, error) {
	status, text, err := c.post("/api/v1/certificates", "application/json", order)
	if err != nil {
		return "", err
	}
	var answer issued
	err = json.Unmarshal(text, &answer)
	if status != http.StatusCreated || err != nil || answer.Serial == "" {
		return "", fmt.Errorf("%d %s %v", status, text, err)
	}
	return answer.Serial, nil
}

// sameOrder: however many nodes get an order at once, it is one certificate.
func (c *cluster) sameOrder(t *testing.T) {
	callers := make([]*caller, len(c.nodes))
	for i, n := range c.nodes {
		callers[i] = c.apiCaller(t, i == 0, n)
	}
	for i := range 20 {
		key := fmt.Sprint("same-", i)
		what := order(t, key)
		serials := make([]string, len(callers))
		var sending sync.WaitGroup
		for n, caller := range callers {
			sending.Go(func() {
				var err error
				serials[n], err = caller.place(what)
				if err != nil {
					t.Errorf("node %d: %v", n+1, err)
				}
			})
		}
		sending.Wait()
		if serials[0] == "" || len(slices.Compact(serials)) != 1 {
			t.Fatalf("one order gave the certificates %v", serials)
		}
		c.issued[key] = serials[0]
	}
	for n, caller := range callers {
		t.Logf("node %d said %d times to come again", n+1, caller.later.Load())
	}
}

// issuerCert is the CA that holders' certificates come from.
func (c *cluster) issuerCert(t *testing.T) *x509.Certificate {
	t.Helper()
	return testkit.CertificateFile(t, c.nodes[0].Dir, "ca", "g1.pem")
}

// question asks for the status of a serial.
func question(t testing.TB, issuer *x509.Certificate, serial string) []byte {
	t.Helper()
	n, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		t.Fatalf("serial %q", serial)
	}
	out, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: n, RawIssuer: issuer.RawSubject}, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// status asks for the status of a certificate.
func (c *caller) status(issuer *x509.Certificate, question []byte) (*ocsp.Response, error) {
	code, text, err := c.post("/ocsp", "application/ocsp-request", question)
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("%d %s", code, text)
	}
	return ocsp.ParseResponse(text, issuer)
}

// revocation: what was revoked at one node is revoked at all, in OCSP and CRL, and its
// mail leaves once. No node says good of a time after the revocation. The CRL
// is published by a node; revoke waits until it sees that, cancel does not.
func (c *cluster) revocation(t *testing.T) {
	issuer := c.issuerCert(t)
	for i, command := range []string{"revoke", "revoke", "revoke", "cancel"} {
		n := c.nodes[i%len(c.nodes)]
		request, serial := c.request(t, n, fmt.Sprintf("失効%d号機", i+1))
		ask := question(t, issuer, serial)
		seen := make([]time.Time, len(c.nodes))
		answers := make([][]*ocsp.Response, len(c.nodes))
		var asking sync.WaitGroup
		for k, node := range c.nodes {
			caller := c.caller(t, "http", 80, false, node)
			asking.Go(func() {
				for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(5 * time.Millisecond) {
					answer, err := caller.status(issuer, ask)
					if err != nil {
						t.Error(err)
						return
					}
					answers[k] = append(answers[k], answer)
					if answer.Status == ocsp.Revoked {
						seen[k] = time.Now()
						return
					}
				}
				t.Errorf("node %d does not answer revoked", k+1)
			})
		}
		if command == "cancel" {
			n.run(t, append([]string{"request", "cancel", request, "--why", "test"}, c.operator...)...)
		} else {
			n.run(t, append([]string{"revoke", serial, "--reason", "keyCompromise"}, c.operator...)...)
		}
		asking.Wait()
		c.revoked = append(c.revoked, serial)
		c.sent++
		var cert pki.Certificate
		c.view(t, func(tx *store.Tx) error {
			var err error
			cert, err = tx.Certificate(serial)
			return err
		})
		for k, list := range answers {
			for _, answer := range list {
				if answer.Status == ocsp.Good && answer.ThisUpdate.After(cert.RevokedAt) {
					t.Errorf("node %d says good as of %s, revoked %s", k+1, answer.ThisUpdate, cert.RevokedAt)
				}
			}
			t.Logf("%s at node %d, seen at node %d after %v", command, i%len(c.nodes)+1, k+1, seen[k].Sub(cert.RevokedAt).Round(time.Millisecond))
		}
		for k, node := range c.nodes {
			testkit.Await(t, fmt.Sprintf("CRL of node %d", k+1), func() bool { return onCRL(t, node, serial) })
		}
	}
	testkit.Await(t, "mails", func() bool { return len(c.mails.Mails()) >= c.sent })
}

// request has a certificate issued for an application with a mail address, waits until
// every node knows it, and gives request ID and serial.
func (c *cluster) request(t *testing.T, n *Live, terminal string) (string, string) {
	t.Helper()
	var r struct{ RequestID, Serial, ContentHash string }
	said := n.run(t, append([]string{"request", "submit", "--kind", "medical", "--code", "0110119153", "--terminal", terminal,
		"--email", "clinic@example.jp", "--json"}, c.operator...)...)
	err := json.Unmarshal([]byte(said), &r)
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	first := c.nodes[0]
	n.run(t, append([]string{"request", "approve", r.RequestID, "--content", r.ContentHash}, first.proof("shonin")...)...)
	testkit.Await(t, "certificate", func() bool {
		c.view(t, func(tx *store.Tx) error {
			found, err := tx.Request(r.RequestID)
			r.Serial = found.Serial
			return err
		})
		return r.Serial != ""
	})
	issuer := c.issuerCert(t)
	for _, node := range c.nodes {
		caller := c.caller(t, "http", 80, false, node)
		testkit.Await(t, "answer good", func() bool {
			answer, err := caller.status(issuer, question(t, issuer, r.Serial))
			return err == nil && answer.Status == ocsp.Good
		})
	}
	return r.RequestID, r.Serial
}

func onCRL(t *testing.T, n *Live, serial string) bool {
	t.Helper()
	answer, err := http.Get(n.URL(80) + "/crl/g1.crl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	der, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return pki.SerialHex(e.SerialNumber) == serial
	})
}

// How many clients load the nodes while they restart.
const (
	orderers = 4
	askers   = 4
)

// rollingRestart: the nodes are stopped and started again one after the other, and then
// the signer; no call of a client that repeats what it may repeat fails.
func (c *cluster) rollingRestart(t *testing.T) {
	issuer := c.issuerCert(t)
	var over atomic.Bool
	var working sync.WaitGroup
	orders := make([]map[string]string, orderers)
	callers := make([]*caller, 0, orderers+askers)
	all := &tally{}
	for w := range orderers {
		client := c.apiCaller(t, w%2 == 0, c.nodes...)
		client.at, client.tally = w, all
		callers = append(callers, client)
		orders[w] = map[string]string{}
		working.Go(func() {
			for i := 0; !over.Load(); i++ {
				key := fmt.Sprintf("rolling-%d-%d", w, i)
				serial, err := client.place(order(t, key))
				if err != nil {
					t.Errorf("order %s: %v", key, err)
					return
				}
				orders[w][key] = serial
			}
		})
	}
	statuses := map[string]int{c.revoked[0]: ocsp.Revoked, c.issued["same-0"]: ocsp.Good}
	var asked atomic.Int64
	for w := range askers {
		client := c.caller(t, "http", 80, false, c.nodes...)
		client.at, client.tally = w, all
		callers = append(callers, client)
		working.Go(func() {
			for !over.Load() {
				for serial, want := range statuses {
					answer, err := client.status(issuer, question(t, issuer, serial))
					if err != nil || answer.Status != want {
						t.Errorf("status of %s: %+v %v", serial, answer, err)
						return
					}
					asked.Add(1)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for i, n := range c.nodes {
		before := all.moved.Load()
		n.Stop(t)
		testkit.Await(t, "calls that met a stopped node", func() bool { return all.moved.Load() > before })
		t.Logf("node %d was ready again after %v", i+1, n.Serve(t).Round(time.Millisecond))
		time.Sleep(500 * time.Millisecond) // its clients come back
	}
	for _, n := range c.nodes {
		c.healthy(t, n)
	}
	c.stopSigner(t)
	testkit.Await(t, "calls that met a stopped signer", func() bool { return all.later.Load() > 0 })
	c.startSigner(t)
	time.Sleep(500 * time.Millisecond)
	over.Store(true)
	working.Wait()
	placed := 0
	for _, done := range orders {
		placed += len(done)
		maps.Copy(c.issued, done)
	}
	longest := map[bool]time.Duration{}
	for n, client := range callers {
		longest[n < orderers] = max(longest[n < orderers], client.longest)
	}
	t.Logf("%d orders, the longest took %v; %d questions, the longest took %v; calls went on to another node %d times, and were told %d times to come again",
		placed, longest[true].Round(time.Millisecond), asked.Load(), longest[false].Round(time.Millisecond), all.moved.Load(), all.later.Load())
	for i, n := range c.nodes {
		testkit.Await(t, fmt.Sprintf("node %d ready with the new signer", i+1), func() bool {
			answer, err := http.Get(n.URL(90) + "/ready")
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			return answer.StatusCode == http.StatusOK
		})
	}
}
