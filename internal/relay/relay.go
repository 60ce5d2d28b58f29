// Package relay is the audience of programs: vendors that issue for the terminals
// they install, and relying systems. It speaks JSON and application/problem+json.
//
// It owns the wire form of the API: how a body is read, how an error is written. It
// does not own what a client may do (ra, under a grant), who a client is (ops), or the
// TLS listener, which app sets to RequireAndVerifyClientCert under the Operations CA.
package relay

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"time"

	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
	"inkan/internal/webkit"
)

// Office is the registration authority as programs need it.
type Office interface {
	IssueByGrant(ctx context.Context, by pki.Actor, client store.APIClient, in ra.APIRequest) (pki.Certificate, error)
}

// Clients says which client a certificate belongs to.
type Clients interface {
	Client(ctx context.Context, cert *x509.Certificate) (store.APIClient, pki.Actor, error)
}

// Config is what the audience is served with.
type Config struct {
	Office  Office
	Clients Clients
	Chain   [][]byte // DER of issuing CA and root, for every answer
	// Report should draw with Problem.Draw, as the whole api zone does.
	Report *webkit.Reporter
}

// Server answers programs.
type Server struct {
	Config
	chain string // PEM
}

// New makes the audience.
func New(c Config) *Server {
	s := &Server{Config: c}
	for _, der := range c.Chain {
		s.chain += pemText(der)
	}
	return s
}

// Mount adds the routes to the mux of the api zone.
func (s *Server) Mount(mux *http.ServeMux) {
	mux.Handle("POST /api/v1/certificates", s.ofClients(s.certificates))
	mux.Handle("/api/v1/certificates", s.ofClients(postOnly))
	mux.Handle("/api/v1/", s.ofClients(func(w http.ResponseWriter, r *http.Request, _ pki.Actor, _ store.APIClient) error {
		return webkit.NotFound(w, r)
	}))
}

// ofClients is the door of every route: whether the client and its certificate are in
// force is asked before anything is read or answered (threat RS1).
func (s *Server) ofClients(do func(w http.ResponseWriter, r *http.Request, by pki.Actor, client store.APIClient) error) http.Handler {
	return s.Report.Handle(func(w http.ResponseWriter, r *http.Request) error {
		client, by, err := s.client(r)
		if err != nil {
			return err
		}
		return do(w, r, by, client)
	})
}

var errMethod = pki.E(pki.Invalid, "http.method").With("Allowed", http.MethodPost)

// postOnly refuses every other method in the form of the api zone; the mux itself would
// answer in plain text.
func postOnly(w http.ResponseWriter, _ *http.Request, _ pki.Actor, _ store.APIClient) error {
	w.Header().Set("Allow", http.MethodPost)
	return errMethod
}

// MaxBody bounds the body of a call.
const MaxBody = 32 << 10

var errNoCertificate = pki.E(pki.Forbidden, "client.no_certificate")

// client says who calls: by the certificate of the connection, asked anew each time,
// so that a disabled client is refused on a connection that is open.
func (s *Server) client(r *http.Request) (store.APIClient, pki.Actor, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return store.APIClient{}, pki.Actor{}, errNoCertificate
	}
	return s.Clients.Client(r.Context(), r.TLS.PeerCertificates[0])
}

// issued is the answer to POST /api/v1/certificates.
type issued struct {
	RequestID   string `json:"requestId"`
	Serial      string `json:"serial"`
	Certificate string `json:"certificate"` // PEM
	Chain       string `json:"chain"`       // PEM: issuing CA, root
	NotAfter    string `json:"notAfter"`    // RFC 3339, UTC
}

// certificates issues for a CSR under a grant. Repeated with the same key and body it
// gives the same answer, 201 too: a client that lost the first cannot tell them apart.
func (s *Server) certificates(w http.ResponseWriter, r *http.Request, by pki.Actor, client store.APIClient) error {
	in, err := readIssue(http.MaxBytesReader(w, r.Body, MaxBody), r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	c, err := s.Office.IssueByGrant(r.Context(), by, client, in)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, "application/json", issued{
		RequestID: c.RequestID, Serial: c.Serial, Certificate: pemText(c.DER), Chain: s.chain,
		NotAfter: c.NotAfter.UTC().Format(time.RFC3339),
	})
}

func pemText(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
