package issuance

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"inkan/internal/lint"
	"inkan/internal/pki"
)

// Params are the few facts in which two certificates of one profile may differ.
type Params struct {
	Profile     Profile
	Serial      *big.Int
	NotBefore   time.Time // cut to the second
	PublicKey   crypto.PublicKey
	Holder      pki.Holder // of a holder's certificate
	CommonName  string     // of the others; digits alone or with a space, see lint
	DNSNames    []string   // of a server
	IPAddresses []net.IP   // of a server
}

// facts are Params that were checked, with what follows from them.
type facts struct {
	Params
	notAfter time.Time
	spki     []byte
	subject  []byte
}

// maxCommonName is ub-common-name of RFC 5280.
const maxCommonName = 64

// check refuses facts that the profile does not allow.
func (i *Issuer) check(p Params) (facts, error) {
	if p.Profile.Issuer != i.id || lint.Issuer(p.Profile.ID) != i.id {
		return facts{}, pki.E(pki.Forbidden, "profile.issuer").With("Profile", p.Profile.ID).With("Issuer", i.id)
	}
	if p.Serial == nil {
		return facts{}, pki.E(pki.Internal, "profile.serial")
	}
	p.NotBefore = p.NotBefore.UTC().Truncate(time.Second)
	p.IPAddresses = shortIPs(p.IPAddresses)
	f := facts{Params: p, notAfter: p.Profile.end(p.NotBefore)}
	err := i.checkKeyAndTimes(f)
	if err != nil {
		return facts{}, err
	}
	f.spki, err = x509.MarshalPKIXPublicKey(p.PublicKey)
	if err != nil {
		return facts{}, pki.E(pki.Invalid, "profile.key").Because(err)
	}
	if bytes.Equal(f.spki, i.cert.RawSubjectPublicKeyInfo) {
		return facts{}, pki.E(pki.Invalid, "profile.key").With("Defect", "key of the CA")
	}
	attributes, err := i.attributes(p)
	if err != nil {
		return facts{}, err
	}
	f.subject, err = encodeName(attributes)
	if err != nil {
		return facts{}, pki.E(pki.Internal, "profile.subject").Because(err)
	}
	return f, nil
}

func (i *Issuer) checkKeyAndTimes(f facts) error {
	keyType, ok := KeyTypeOf(f.PublicKey)
	defect := lint.Key(f.PublicKey)
	switch {
	case !ok || defect != "" || !slices.Contains(f.Profile.KeyTypes, keyType):
		return pki.E(pki.Invalid, "profile.key").With("KeyType", string(keyType)).With("Defect", defect)
	case f.notAfter.After(keyType.UsableUntil()):
		return pki.E(pki.Invalid, "profile.algorithm_until").With("KeyType", string(keyType)).With("Until", keyType.UsableUntil())
	case f.notAfter.After(i.cert.NotAfter):
		return pki.E(pki.Invalid, "profile.issuer_until").With("Until", i.cert.NotAfter)
	case f.NotBefore.Before(i.cert.NotBefore):
		return pki.E(pki.Invalid, "profile.issuer_from").With("From", i.cert.NotBefore)
	}
	return nil
}

// attributes gives the subject in DER order.
func (i *Issuer) attributes(p Params) ([]attribute, error) {
	if p.Profile.Names != (len(p.DNSNames)+len(p.IPAddresses) > 0) || !i.permits(p.DNSNames, p.IPAddresses) {
		return nil, pki.E(pki.Invalid, "profile.names")
	}
	out := []attribute{{oidCountry, i.cfg.Country}, {oidOrganization, i.cfg.Organization}}
	if p.Profile.Holder {
		parsed, err := pki.ParseHolder(p.Holder.Kind, p.Holder.Code)
		if err != nil {
			return nil, err
		}
		if parsed != p.Holder || p.CommonName != "" && p.CommonName != p.Holder.Code {
			return nil, pki.E(pki.Invalid, "profile.common_name")
		}
		return append(out, attribute{oidUnit, p.Holder.Prefecture()}, attribute{oidUnit, i.cfg.kindOU(p.Holder.Kind)},
			attribute{oidCommonName, p.Holder.Code}), nil
	}
	if p.Holder != (pki.Holder{}) {
		return nil, pki.E(pki.Invalid, "profile.common_name")
	}
	cn := p.CommonName
	// A server's name is in the alternative names; its CN, if any, repeats one or is words.
	own := p.Profile.Names && (cn == "" || slices.Contains(p.DNSNames, cn))
	if !own && !words(cn) || !utf8.ValidString(cn) || utf8.RuneCountInString(cn) > maxCommonName || strings.TrimSpace(cn) != cn {
		return nil, pki.E(pki.Invalid, "profile.common_name").With("CommonName", cn)
	}
	return append(out, attribute{oidUnit, p.Profile.OU}, attribute{oidCommonName, cn}), nil
}

// words says that nobody reads the CN as a host name (threat CK3; lint has the
// same rule for whatever comes another way).
func words(cn string) bool {
	return cn != "" && (strings.Contains(cn, " ") || strings.Trim(cn, "0123456789") == "")
}

// permits says whether the names are plain ones that the issuer's constraints allow,
// so that an operator hears it here and not from every browser.
func (i *Issuer) permits(dns []string, ips []net.IP) bool {
	for _, name := range dns {
		plain := len(name) <= 253 && !strings.Contains("."+name+".", "..") &&
			strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
		within := slices.ContainsFunc(i.cert.PermittedDNSDomains, func(base string) bool {
			return name == base || strings.HasSuffix(name, "."+base)
		})
		if !plain || !within {
			return false
		}
	}
	for _, ip := range ips {
		within := slices.ContainsFunc(i.cert.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
		if !within {
			return false
		}
	}
	return true
}

// shortIPs gives IPv4 addresses their four octets, as certificates have them.
func shortIPs(ips []net.IP) []net.IP {
	var out []net.IP
	for _, ip := range ips {
		short := ip.To4()
		if short == nil {
			short = ip
		}
		out = append(out, short)
	}
	return out
}
