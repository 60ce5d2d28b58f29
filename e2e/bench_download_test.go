package e2e

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"

	"golang.org/x/crypto/argon2"

	"inkan/internal/delivery"
)

// holders is how many people download at once.
const holders = 16

// download measures a PKCS#12 download from the form to the file beside what no server
// can save: Argon2id over the reference ID once to check it, and the file's two
// derivations of a key from the PIN.
func (b *bench) download() {
	limit := b.rawDownload()
	d := Start(b.T)
	sample := d.Sample(b.T, "download")
	form := url.Values{"requestId": {sample.RequestID}, "referenceId": {sample.ReferenceID}, "password": {"4711"}, "passwordConfirm": {"4711"}}
	got := load(b, holders, b.lasts, func(worker int) (func(int64) error, error) {
		v := newVisitor(b.T, d, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Edg/130.0")
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(worker+1))}} // each holder is a source
		v.client.Transport.(*http.Transport).DialContext = from.DialContext
		v.do(b.T, http.MethodGet, d.Portal+"/p/rcd", nil) // the cookie
		return func(int64) error {
			page := v.do(b.T, http.MethodPost, d.Portal+"/p/rcd", form)
			if page.status != http.StatusOK || page.file == "" {
				return fmt.Errorf("%d %q", page.status, page.heading)
			}
			file := v.do(b.T, http.MethodGet, page.file, nil)
			if file.status != http.StatusOK || file.header.Get("Content-Type") != "application/x-pkcs12" {
				return fmt.Errorf("file: %d", file.status)
			}
			return nil
		}, nil
	})
	b.rates(fmt.Sprintf("PKCS#12 downloads, %d at once", holders), got, limit.perSecond, "limit: Argon2id and the file's two PBKDF2 on all cores; each answer waits 150 ms on purpose")
	d.Stop(b.T)
}

func (b *bench) rawDownload() rate {
	root, rootKey := authority(b.T, "Bench Root")
	leaf := sign(b.T, &x509.Certificate{}, root, rootKey)
	cert, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		b.Fatal(err)
	}
	return load(b, runtime.NumCPU(), b.lasts/4, func(int) (func(int64) error, error) {
		return func(int64) error {
			argon2.IDKey([]byte("reference1"), []byte("salt of 16 bytes"), 2, 19<<10, 1, 32)
			_, err := delivery.PKCS12(leaf.PrivateKey, cert, []*x509.Certificate{root}, "4711", delivery.Options{})
			return err
		}, nil
	})
}
