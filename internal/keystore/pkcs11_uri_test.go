package keystore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

func TestCheckKeyURI(t *testing.T) {
	const module = "?module-path=/usr/lib/hsm.so"
	tests := []struct{ uri, code, part string }{
		{"file:keys/g1.key.age", "", ""},
		{"pkcs11:token=inkan;object=g1" + module, "", ""},
		{"pkcs11:serial=0a1b;id=%01%ff" + module + "&pin-source=file:/run/pin", "", ""},
		{"pkcs11:token=in%20kan;serial=1;model=M;manufacturer=X;object=g1;type=private" + module + "&pin-source=file:///run/pin", "", ""},
		{"pkcs11:token=inkan;object=g1" + module + "&pin-source=/run/pin", "", ""},
		{"pkcs11:", "token.uri", "module-path"},
		{"pkcs11:token=inkan;object=g1", "token.uri", "module-path"},
		{"pkcs11:token=inkan;object=g1?module-path=hsm.so", "token.uri", "module-path"},
		{"pkcs11:object=g1" + module, "token.uri", "token"},
		{"pkcs11:token=;object=g1" + module, "token.uri", "token"},
		{"pkcs11:token=inkan" + module, "token.uri", "object"},
		{"pkcs11:token=inkan;object=g1;object=g2" + module, "token.uri", "object"},
		{"pkcs11:token=inkan;object=%zz" + module, "token.uri", "object"},
		{"pkcs11:token=inkan;object=g1;type=cert" + module, "token.uri", "type"},
		{"pkcs11:token=inkan;object=g1;slot-id=3" + module, "token.uri", "pkcs11:"},
		{"pkcs11:token=inkan;object=g1;" + module, "token.uri", "pkcs11:"},
		{"pkcs11:token=inkan;object=g1;module-path=/usr/lib/hsm.so", "token.uri", "pkcs11:"},
		{"pkcs11:token=inkan;object=g1" + module + "&pin-source=pin", "token.uri", "pin-source"},
		{"pkcs11:token=inkan;object=g1" + module + "&pin-value=7305hana", "token.pin_value", ""},
		{"pkcs11:token=inkan;object=g1;pin-value=7305hana" + module, "token.pin_value", ""},
		{"pkcs11:token=inkan;object=g1" + module + "&PIN-Value=7305hana", "token.pin_value", ""},
		{"pkcs12:token=inkan;object=g1?pin-value=7305hana", "vault.key_uri", ""},
		{"file:/etc/passwd", "vault.key_uri", ""},
		{"file:../g1", "vault.key_uri", ""},
		{"g1", "vault.key_uri", ""},
		{"", "vault.key_uri", ""},
	}
	for _, tt := range tests {
		err := keystore.CheckKeyURI(tt.uri)
		if err == nil && tt.code == "" {
			continue
		}
		wantCode(t, err, tt.code)
		e, ok := errors.AsType[*pki.Error](err)
		if ok && tt.part != "" && e.Args["Part"] != tt.part {
			t.Errorf("%s: the refusal names %v, want %s", tt.uri, e.Args["Part"], tt.part)
		}
		if strings.Contains(fmt.Sprint(err), "7305hana") {
			t.Errorf("the PIN is in the refusal: %v", err)
		}
	}
}
