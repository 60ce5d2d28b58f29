package app_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"inkan/internal/testkit"

	"filippo.io/age"
	"software.sslmate.com/src/go-pkcs12"
)

// TestThreatCK2: init shows the passphrase of the root's key once. Without it no file
// of the instance gives that key, whatever else one has of the instance: the vault's
// passphrase, what is in the vault, the operator's password. And the instance runs
// without it.
func TestThreatCK2(t *testing.T) {
	testkit.Long(t, "makes and runs an instance")
	home := t.TempDir()
	dir := filepath.Join(home, "inst")
	_, at, release, err := freePorts()
	testkit.Must(t, err)
	t.Cleanup(release)
	config := filepath.Join(home, "want.toml")
	testkit.Must(t, os.WriteFile(config, fmt.Appendf(nil, "%s[portal]\nlisten = %[2]q\nhosts = [%[2]q]\n[api]\nlisten = %[3]q\nhosts = [%[3]q]\n[portal_auth]\nlisten = %[6]q\nhosts = [%[6]q]\n[status]\nlisten = %[4]q\nurl = \"http://%[4]s\"\n[internal]\nlisten = %[5]q\n",
		liveConfig, at["PORTAL"], at["API"], at["STATUS"], at["INTERNAL"], at["AUTH"]), 0o600))
	out, err := exec.Command("inkan", "init", "--dir", dir, "--config", config).Output()
	testkit.Must(t, err)
	shown := regexp.MustCompile(`password of operator-admin\.p12: +(\S+)\n +passphrase of offline/root\.key\.age: +(\S{32})\n`).FindSubmatch(out)
	if shown == nil {
		t.Fatalf("init shows %s", out)
	}
	operator, passphrase := string(shown[1]), string(shown[2])

	// With the passphrase the file is the root's key; so what is looked for is that.
	root := testkit.CertificateFile(t, dir, "ca/root.pem")
	plain := opened(testkit.ReadFile(t, dir, "offline/root.key.age"), scrypt(t, passphrase))
	if !isKeyOf(plain, root.PublicKey) {
		t.Fatal("the passphrase that was shown does not open the root's key")
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	testkit.Must(t, err)
	secret, err := key.(*ecdsa.PrivateKey).Bytes()
	testkit.Must(t, err)
	needles := map[string][]byte{"the root's key": secret, "the root's key in hex": []byte(hex.EncodeToString(secret)), "its passphrase": []byte(passphrase)}
	for shift := range 3 { // base64 of whatever stands before it
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		needles[fmt.Sprintf("the root's key in base64 (%d)", shift)] = []byte(text[4 : len(text)-4])
	}

	vaultPass := strings.TrimSpace(string(testkit.ReadFile(t, dir, "signer/passphrase")))
	var vault struct{ Identity string }
	testkit.Must(t, json.Unmarshal(opened(testkit.ReadFile(t, dir, "signer/vault.age"), scrypt(t, vaultPass)), &vault))
	identity, err := age.ParseX25519Identity(vault.Identity)
	testkit.Must(t, err)
	inside := 0
	testkit.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw := testkit.ReadFile(t, path)
		contents := [][]byte{raw}
		for _, i := range []age.Identity{identity, scrypt(t, vaultPass), scrypt(t, operator)} {
			if content := opened(raw, i); content != nil {
				contents = append(contents, content)
			}
		}
		if own, _, _, err := pkcs12.DecodeChain(raw, operator); err == nil {
			der, err := x509.MarshalPKCS8PrivateKey(own)
			testkit.Must(t, err)
			contents = append(contents, der)
		}
		inside += len(contents) - 1
		for _, content := range contents {
			for what, needle := range needles {
				if bytes.Contains(content, needle) {
					t.Errorf("%s gives %s", path, what)
				}
			}
			if isKeyOf(content, root.PublicKey) {
				t.Errorf("%s opens as the root's key", path)
			}
		}
		return nil
	}))
	if inside != 5 { // vault.age, three keys, the operator's file
		t.Errorf("%d files could be opened: nothing is shown", inside)
	}

	testkit.Must(t, os.RemoveAll(filepath.Join(dir, "offline"))) // carried away
	runs(t, dir, at["INTERNAL"])
}

// runs starts an instance, waits until it is ready, and stops it.
func runs(t *testing.T, dir, internal string) {
	t.Helper()
	serve := exec.Command("inkan", "serve", "--dir", dir)
	serve.Stderr = os.Stderr
	testkit.Must(t, serve.Start())
	defer func() { _ = serve.Process.Kill() }()
	testkit.Await(t, "ready", func() bool {
		resp, err := http.Get("http://" + internal + "/ready")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	testkit.Must(t, serve.Process.Signal(syscall.SIGTERM))
	testkit.Must(t, serve.Wait())
}

func scrypt(t *testing.T, passphrase string) age.Identity {
	t.Helper()
	i, err := age.NewScryptIdentity(passphrase)
	testkit.Must(t, err)
	return i
}

// opened gives the content of an age file; nil where the identity does not open it.
func opened(sealed []byte, with age.Identity) []byte {
	r, err := age.Decrypt(bytes.NewReader(sealed), with)
	if err != nil {
		return nil
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return nil
	}
	return content
}

// isKeyOf says whether some bytes are the private half of a key, in any usual form.
func isKeyOf(content []byte, public crypto.PublicKey) bool {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if isKeyOf(block.Bytes, public) {
			return true
		}
	}
	var key any
	key, err := x509.ParsePKCS8PrivateKey(content)
	if err != nil {
		key, err = x509.ParseECPrivateKey(content)
	}
	private, ok := key.(crypto.Signer)
	own, known := public.(interface{ Equal(crypto.PublicKey) bool })
	return err == nil && ok && known && own.Equal(private.Public())
}
