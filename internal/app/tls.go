package app

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"inkan/internal/crash"
	"inkan/internal/issuance"
)

// renewLeaf is how long before its end one of our own short certificates is
// replaced: a third of its life is left for somebody to notice.
func renewLeaf(c *x509.Certificate, at time.Time) bool {
	return at.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3))
}

// leaf is the TLS certificate of one zone (threat RS4: one leaf a zone), replaced
// while the server runs.
type leaf struct {
	zone    string
	hosts   []string
	current atomic.Pointer[tls.Certificate]
}

func (l *leaf) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.current.Load(), nil }

// renew loads the zone's certificate from disk, or has a new one issued when there
// is none, when it ends soon, or when its names are not the configured ones.
func (l *leaf) renew(ctx context.Context, i *instance) error {
	var dns []string
	var ips []net.IP
	for _, h := range l.hosts {
		name := hostOnly(h)
		ip := net.ParseIP(name)
		if ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, name)
		}
	}
	key, cert, err := i.keepOwn(ctx, l.zone, issuance.ProfileTLSServer, "", dns, ips, func(c *x509.Certificate) bool {
		for _, h := range l.hosts {
			if c.VerifyHostname(hostOnly(h)) != nil {
				return false
			}
		}
		return true
	})
	if cert != nil {
		l.current.Store(&tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert})
	}
	if err != nil {
		return fmt.Errorf("certificate of zone %s: %w", l.zone, err)
	}
	return nil
}

// keepOwn gives a key and certificate of ours from edge/<name>.pem, made anew when
// they do not serve any more. Where a new one cannot be had while the old one still
// serves, it gives the old pair and the error: use the one, tell the other.
func (i *instance) keepOwn(ctx context.Context, name, profile, commonName string, dns []string, ips []net.IP, serves func(*x509.Certificate) bool) (crypto.Signer, *x509.Certificate, error) {
	path := filepath.Join(i.dir, "edge", name+".pem")
	key, cert, err := readPair(path)
	if err != nil && !os.IsNotExist(err) {
		i.log.Warn("certificate of ours is unreadable; a new one is made", "file", path, "err", err)
	}
	usable := err == nil && serves(cert) && i.clock.Now().Before(cert.NotAfter)
	if usable && !renewLeaf(cert, i.clock.Now()) {
		return key, cert, nil
	}
	newKey, fresh, err := i.ownCertificate(ctx, profile, commonName, dns, ips)
	crash.At("own.8 before the file")
	if err != nil && usable {
		return key, cert, fmt.Errorf("renew certificate %s, which ends %s: %w", name, stamp(cert.NotAfter), err)
	}
	if err != nil {
		return nil, nil, err
	}
	return newKey, fresh, writePair(path, newKey, fresh)
}

func readPair(path string) (crypto.Signer, *x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s holds no signing key", path)
	}
	return key, pair.Leaf, nil
}

// writePair writes key and certificate as one file, so that a kill never leaves one
// without the other.
func writePair(path string, key crypto.Signer, cert *x509.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	out := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	clear(der)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(out)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	crash.At("own.8 before the file is in place")
	return os.Rename(path+".new", path)
}

// serverTLS is the TLS of one zone: a literal of its own, never a copy of another's
// (threat RS5). Suites are ECDHE with AEAD only (RS6).
func serverTLS(l *leaf) *tls.Config {
	return &tls.Config{
		GetCertificate:         l.get,
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		NextProtos:             []string{"h2", "http/1.1"},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}
