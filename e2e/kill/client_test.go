package kill

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
	"software.sslmate.com/src/go-pkcs12"

	"inkan/internal/pki"
	"inkan/internal/portal/portaltest"
	"inkan/internal/testkit"
)

// memory is what clients were told: it must stay true.
type memory struct {
	*sync.Mutex
	api     *http.Client
	roots   *x509.CertPool
	issuer  *x509.Certificate
	orders  []*order             // with an answer
	letters []letter             // downloaded once
	revoked map[string]time.Time // serial → when the revocation was acknowledged, at the latest
	list    *big.Int             // number of the last CRL that somebody saw

	standing map[string]pki.Reason // serial → what responder and list say after a holder's case
	reports  []*report             // that wait for a decision
	asked    int                   // reports and applications, which count their addresses
	drafts   []*application        // whose address is to be confirmed
	entered  []*application        // that can be withdrawn
	caught   map[string]bool       // Message-IDs of mails that came
}

func newMemory() memory {
	return memory{Mutex: &sync.Mutex{}, revoked: map[string]time.Time{}, list: new(big.Int),
		standing: map[string]pki.Reason{}, caught: map[string]bool{}}
}

// next counts an application or a report.
func (m *memory) next() int {
	m.Lock()
	defer m.Unlock()
	m.asked++
	return m.asked
}

// program makes the API client's side.
func (p *plant) program(t *testing.T) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(p.dir, "client-vendor.pem"), filepath.Join(p.dir, "client-vendor.key.pem"))
	must(t, err)
	p.roots = testkit.Roots(t, filepath.Join(p.dir, "ca", "tls.pem"))
	p.issuer = testkit.CertificateFile(t, p.dir, "ca", "g1.pem")
	p.api = testkit.HTTP(t, &tls.Config{RootCAs: p.roots, Certificates: []tls.Certificate{pair}}, false)
}

// wrong is an answer that no death excuses: the client does not repeat.
type wrong struct{ error }

// persist repeats what a client does until it succeeds, as long as people wait.
func persist(try func() error) error {
	var final error
	err := eventually(time.Minute, func() error {
		err := try()
		if _, ok := errors.AsType[wrong](err); ok {
			final = err
			return nil
		}
		return err
	})
	return errors.Join(err, final)
}

// order is one call of POST /api/v1/certificates.
type order struct {
	key    string
	body   []byte
	public crypto.PublicKey
	serial string // as answered
	cert   string
}

func newOrder() (*order, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	o := &order{key: rand.Text(), public: key.Public()}
	o.body, err = json.Marshal(map[string]string{"holderKind": "medical", "holderCode": "0110119153", "terminalName": "API1号機",
		"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})), "idempotencyKey": o.key})
	return o, err
}

// post asks once. The answer must be the one of before.
func (p *plant) post(o *order) error {
	resp, err := p.api.Post("https://"+p.at["api"]+"/api/v1/certificates", "application/json", bytes.NewReader(o.body))
	if err != nil {
		p.api.CloseIdleConnections()
		return err
	}
	raw, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("API answers %s: %.500s", resp.Status, raw)
		if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			return wrong{err}
		}
		return err
	}
	var answer struct{ Serial, Certificate string }
	err = json.Unmarshal(raw, &answer)
	if err != nil {
		return wrong{err}
	}
	block, _ := pem.Decode([]byte(answer.Certificate))
	if block == nil {
		return wrong{errors.New("the answer holds no certificate")}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil:
		return wrong{err}
	case cert.CheckSignatureFrom(p.issuer) != nil || !o.public.(*ecdsa.PublicKey).Equal(cert.PublicKey):
		return wrong{fmt.Errorf("order %s got a certificate of another key or issuer", o.key)}
	case o.serial != "" && o.cert != answer.Certificate:
		return wrong{fmt.Errorf("order %s got %s first and %s now", o.key, o.serial, answer.Serial)}
	}
	p.Lock()
	defer p.Unlock()
	if o.serial == "" {
		o.serial, o.cert = answer.Serial, answer.Certificate
		p.orders = append(p.orders, o)
	}
	return nil
}

// letter is a request with what its letter says.
type letter struct{ ID, Reference, Serial string }

type shown struct {
	RequestID, State, Serial, ReferenceID string
	DispatchedAt                          string
}

func (p *plant) show(who, id string) (shown, error) {
	var s shown
	out, err := p.as(who, "request", "show", id)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// submit enters an application at the counter.
func (p *plant) submit() (string, error) {
	out, err := p.as("intake", "request", "submit", "--kind", "medical", "--code", "0110119153", "--terminal", "受付1号機",
		"--email", "clinic@example.jp", "--json")
	if err != nil {
		return "", err
	}
	var s shown
	return s.RequestID, errors.Join(json.Unmarshal([]byte(out), &s), nonEmpty(&s.RequestID))
}

func nonEmpty(s *string) error {
	if *s == "" {
		return errors.New("no ID")
	}
	return nil
}

// issued carries a request on until it is issued: whoever approved does not know
// whether that counted, so he looks.
func (p *plant) issued(id string) error {
	s, err := p.show("approver", id)
	if err != nil || s.State == "issued" {
		return err
	}
	if s.State == "received" {
		_, err = p.decides("approver", "request", "approve", id)
	}
	return errors.Join(err, fmt.Errorf("request %s is %s", id, s.State))
}

// post office: the letter is read, and leaves.
func (p *plant) dispatch(id string) (letter, error) {
	s, err := p.show("letters", id)
	if err != nil {
		return letter{}, err
	}
	if s.ReferenceID == "" {
		return letter{}, wrong{fmt.Errorf("request %s is %s and has no reference ID", id, s.State)}
	}
	l := letter{id, s.ReferenceID, s.Serial}
	return l, persist(func() error {
		_, err := p.as("letters", "letter", "dispatch", id)
		return err
	})
}

// newLetter takes a request all the way to a letter that left.
func (p *plant) newLetter() (letter, error) {
	var id string
	err := persist(func() error {
		var err error
		id, err = p.submit()
		return err
	})
	if err != nil {
		return letter{}, err
	}
	err = persist(func() error { return p.issued(id) })
	if err != nil {
		return letter{}, err
	}
	var l letter
	err = persist(func() error {
		var err error
		l, err = p.dispatch(id)
		return err
	})
	return l, err
}

// browser is a holder's, with a certificate or without.
func (p *plant) browser(with ...tls.Certificate) (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots, Certificates: with}, DisableKeepAlives: true}
	return &http.Client{Jar: jar, Transport: transport, Timeout: 30 * time.Second}, err
}

// download fetches the file of a letter as its holder does, and opens it.
func (p *plant) download(l letter) error {
	_, err := p.fetch(l)
	return err
}

func (p *plant) fetch(l letter) (tls.Certificate, error) {
	var none tls.Certificate
	browser, err := p.browser()
	if err != nil {
		return none, err
	}
	site := "https://" + p.at["portal"]
	_, err = page(browser.Get(site + "/p/rcd"))
	if err != nil {
		return none, err
	}
	form := url.Values{"requestId": {l.ID}, "referenceId": {l.Reference}, "password": {pin}, "passwordConfirm": {pin}}
	body, err := page(browser.PostForm(site+"/p/rcd", form))
	if err != nil {
		return none, err
	}
	link := portaltest.File(string(body))
	if link == "" {
		return none, wrong{fmt.Errorf("no file on the page for %s", l.ID)}
	}
	file, err := page(browser.Get(site + link))
	if err != nil {
		return none, err
	}
	key, cert, _, err := pkcs12.DecodeChain(file, pin)
	if err != nil {
		return none, wrong{err}
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(cert.PublicKey) || pki.SerialHex(cert.SerialNumber) != l.Serial {
		return none, wrong{fmt.Errorf("the file of %s holds another certificate or key", l.ID)}
	}
	p.Lock()
	defer p.Unlock()
	p.letters = append(p.letters, l)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

const pin = "4711"

// page reads an answer that has to be 200; busy pages are to be asked again.
func page(resp *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusOK:
		return raw, nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return nil, fmt.Errorf("%s answers %s", resp.Request.URL.Path, resp.Status)
	}
	return nil, wrong{fmt.Errorf("%s answers %s: %.300s", resp.Request.URL.Path, resp.Status, raw)}
}

// revoke revokes by the officer, and remembers when that was acknowledged.
func (p *plant) revoke(serial string) error {
	out, err := p.as("officer", "revoke", serial, "--reason", "keyCompromise")
	if err != nil && !strings.Contains(out, "revoked already") {
		return err
	}
	p.Lock()
	defer p.Unlock()
	p.revoked[serial] = time.Now()
	return nil
}

// status asks the responder.
func (p *plant) status(serial string) (int, error) {
	answer, err := p.answer(serial)
	if err != nil {
		return 0, err
	}
	return answer.Status, nil
}

// answer is what the responder says. Who says good of a certificate whose revocation was
// acknowledged may do so only as of an earlier time (invariant 7).
func (p *plant) answer(serial string) (*ocsp.Response, error) {
	p.Lock()
	at, revoked := p.revoked[serial]
	p.Unlock()
	n, err := pki.ParseSerial(serial)
	if err != nil {
		return nil, wrong{err}
	}
	question, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: n}, p.issuer, nil)
	if err != nil {
		return nil, wrong{err}
	}
	raw, err := page(http.Post("http://"+p.at["status"]+"/ocsp", "application/ocsp-request", bytes.NewReader(question)))
	if err != nil {
		return nil, err
	}
	answer, err := ocsp.ParseResponseForCert(raw, &x509.Certificate{SerialNumber: n}, p.issuer)
	if err != nil {
		return nil, err // tryLater
	}
	if revoked && answer.Status == ocsp.Good && answer.ThisUpdate.After(at) {
		return nil, wrong{fmt.Errorf("%s was revoked by %s, and is good as of %s", serial, at, answer.ThisUpdate)}
	}
	return answer, nil
}

// crl fetches the list. Numbers only grow.
func (p *plant) crl() (*x509.RevocationList, error) {
	p.Lock()
	defer p.Unlock() // of two answers under way the older may come later
	raw, err := page(http.Get("http://" + p.at["status"] + "/crl/g1.crl"))
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, wrong{err}
	}
	err = list.CheckSignatureFrom(p.issuer)
	if err != nil {
		return nil, wrong{err}
	}
	if list.Number.Cmp(p.list) < 0 {
		return nil, wrong{fmt.Errorf("the CRL's number fell from %s to %s", p.list, list.Number)}
	}
	p.list = list.Number
	return list, nil
}

// everywhere says whether a revocation is in OCSP and in the CRL.
func (p *plant) everywhere(serial string) error {
	status, err := p.status(serial)
	if err != nil {
		return err
	}
	if status != ocsp.Revoked {
		return fmt.Errorf("OCSP says %d of %s", status, serial)
	}
	list, err := p.crl()
	if err != nil {
		return err
	}
	for _, e := range list.RevokedCertificateEntries {
		if pki.SerialHex(e.SerialNumber) == serial {
			return nil
		}
	}
	return fmt.Errorf("%s is not in CRL %s", serial, list.Number)
}
