package app

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// FuzzConfig: a configuration without a fault means the same once it is written and read
// again.
func FuzzConfig(f *testing.F) {
	f.Add("")
	f.Add("mode = \"demo\"\n[status]\ncrl_every = \"10m\"\n")
	f.Add("[portal]\nhosts = [\"a.example.jp\"]\nlisten = 5\n")
	f.Add("[names.ou]\nmedical = \"x\"\nunknown = 1\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		c, faults := parseConfig(text)
		if len(faults) > 0 {
			return
		}
		path := filepath.Join(dir, configFile)
		err := c.write(path)
		if err != nil {
			t.Fatal(err)
		}
		again, faults, err := readConfig(path)
		if err != nil || len(faults) > 0 || !reflect.DeepEqual(normal(again), normal(c)) {
			t.Fatalf("%q: written and read it is %+v, was %+v, %v %v", text, again, c, faults, err)
		}
	})
}

// normal forgets the difference between an empty list and none.
func normal(c Config) Config {
	if len(c.Names.OU) == 0 {
		c.Names.OU = nil
	}
	if len(c.Signer.Keys) == 0 {
		c.Signer.Keys = nil
	}
	return c
}

// FuzzOperatorKey: a PKCS#12 file is a key and a certificate, or a refusal in words.
func FuzzOperatorKey(f *testing.F) {
	key := testkit.Key(f)
	cert := testkit.SelfSigned(f, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().AddDate(1, 0, 0)}, key).Leaf
	for _, encoder := range []*pkcs12.Encoder{pkcs12.Modern2023.WithIterations(1), pkcs12.LegacyDES.WithIterations(1), pkcs12.Passwordless} {
		password := "1234"
		if encoder == pkcs12.Passwordless {
			password = ""
		}
		file, err := encoder.Encode(key, cert, nil, password)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file, password)
	}
	f.Fuzz(func(t *testing.T, file []byte, password string) {
		if len(file) > maxKeyFile {
			return
		}
		got, cert, err := parseKey("x", bytes.Clone(file), pki.Secret(password))
		if err != nil && pki.ClassOf(err) != pki.Forbidden {
			t.Fatalf("class of %v", err)
		}
		if err == nil && (got == nil || cert == nil) {
			t.Fatal("neither a key nor a refusal")
		}
	})
}
