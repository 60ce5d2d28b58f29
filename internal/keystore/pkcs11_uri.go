package keystore

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"inkan/internal/pki"
)

// tokenURI is the place of a key in a PKCS#11 token, as RFC 7512 writes it:
//
//	pkcs11:token=inkan;serial=0a1b2c3d;object=g1?module-path=/usr/lib/…/module.so
//
// Everything that is given must be right: a token with the label and another serial
// number is another token (threat CK5).
type tokenURI struct {
	module                             string // path of the library
	token, serial, model, manufacturer string
	object                             string // label of the key
	id                                 string // CKA_ID of the key, its octets
	pinSource                          string // path of the file with the PIN; "": the configured one
}

// parseTokenURI reads what follows "pkcs11:". No refusal repeats the URI: somebody may
// have put the PIN into it.
func parseTokenURI(rest string) (tokenURI, error) {
	var u tokenURI
	typ := ""
	path, query, _ := strings.Cut(rest, "?")
	for _, part := range []struct {
		text, separator string
		known           map[string]*string
	}{
		{path, ";", map[string]*string{"token": &u.token, "serial": &u.serial, "model": &u.model, "manufacturer": &u.manufacturer,
			"object": &u.object, "id": &u.id, "type": &typ}},
		{query, "&", map[string]*string{"module-path": &u.module, "pin-source": &u.pinSource}},
	} {
		if part.text == "" {
			continue
		}
		for attribute := range strings.SplitSeq(part.text, part.separator) {
			name, raw, _ := strings.Cut(attribute, "=")
			if strings.EqualFold(name, "pin-value") {
				return tokenURI{}, pki.E(pki.Forbidden, "token.pin_value")
			}
			target := part.known[name]
			if target == nil {
				return tokenURI{}, pki.E(pki.Invalid, "token.uri").With("Part", "pkcs11:")
			}
			value, err := url.PathUnescape(raw)
			if err != nil || value == "" || *target != "" {
				return tokenURI{}, pki.E(pki.Invalid, "token.uri").With("Part", name)
			}
			*target = value
		}
	}
	if u.pinSource != "" {
		u.pinSource = filepath.Clean(strings.TrimPrefix(u.pinSource, "file:")) // file:///run/pin is file:/run/pin
	}
	for _, bad := range []struct {
		is   bool
		part string
	}{
		{!filepath.IsAbs(u.module), "module-path"},
		{u.token == "" && u.serial == "", "token"},
		{u.object == "" && u.id == "", "object"},
		{typ != "" && typ != "private", "type"},
		{u.pinSource != "" && !filepath.IsAbs(u.pinSource), "pin-source"},
	} {
		if bad.is {
			return tokenURI{}, pki.E(pki.Invalid, "token.uri").With("Part", bad.part)
		}
	}
	return u, nil
}

// pinFile gives the file with the PIN: that of the URI goes before the configured one.
func (u tokenURI) pinFile(configured string) string {
	if u.pinSource != "" {
		return u.pinSource
	}
	return configured
}

// name says where the key is, for people: without library and PIN.
func (u tokenURI) name() string {
	var parts []string
	for _, p := range [][2]string{{"token", u.token}, {"serial", u.serial}, {"object", u.object}, {"id", u.id}} {
		if p[1] != "" {
			parts = append(parts, p[0]+"="+url.PathEscape(p[1]))
		}
	}
	return strings.Join(parts, ";")
}

// CheckKeyURI says whether a URI can be the place of a CA key, without going there.
func CheckKeyURI(uri string) error {
	scheme, rest, _ := strings.Cut(uri, ":")
	switch {
	case scheme == "pkcs11":
		_, err := parseTokenURI(rest)
		return err
	case scheme == "file" && filepath.IsLocal(rest):
		return nil
	}
	return badKeyURI(uri)
}

// badKeyURI shows a URI only where it cannot hold a PIN.
func badKeyURI(uri string) error {
	if slices.ContainsFunc([]string{"pin", "PIN"}, func(s string) bool { return strings.Contains(uri, s) }) {
		uri = "…"
	}
	return pki.E(pki.Invalid, "vault.key_uri").With("URI", uri)
}
