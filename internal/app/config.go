package app

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/BurntSushi/toml"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/webkit"
)

// configFile is the name of the configuration inside an instance directory.
const configFile = "inkan.toml"

// Config is inkan.toml. Every field has a usable default, so that an empty file is a
// valid configuration. Unknown keys and wrong types are errors.
type Config struct {
	// Mode is "live" or "demo". It is written by init and repeated here for people;
	// the vault and the database hold the truth and must agree.
	Mode string `toml:"mode"`

	Database struct {
		// DSN is the database: "" for SQLite in the instance directory, or
		// "postgres://…".
		DSN string `toml:"dsn"`
	} `toml:"database"`

	Signer struct {
		// Dir holds the vault and the CA keys; relative to the instance directory.
		Dir string `toml:"dir"`
		// Socket is the unix socket of the signer; relative to the instance directory.
		Socket string `toml:"socket"`
		// Child starts the signer as a child of serve; false where it has a unit of its own.
		Child bool `toml:"child"`
		// PassphraseFile opens the vault; relative to the instance directory. A systemd
		// credential inkan-passphrase goes before it.
		PassphraseFile string `toml:"passphrase_file"`
		// EdgeUser is the numeric user ID of the edge that may call; -1: the signer's own.
		EdgeUser int `toml:"edge_user"`
		// PINFile opens the tokens of Keys; relative to the instance directory. A systemd
		// credential inkan-pkcs11-pin goes before it.
		PINFile string `toml:"pin_file"`
		// PassEnv names what of serve's environment a signer that is its child gets, for
		// the library of a token: SOFTHSM2_CONF.
		PassEnv []string `toml:"pass_env"`
		// Keys says where a CA key lives other than in the vault: g1 = "pkcs11:…".
		Keys map[string]string `toml:"keys"`
		// RatePerMinute bounds how many certificates the signer signs in a minute.
		RatePerMinute int `toml:"rate_per_minute"`
	} `toml:"signer"`

	Names struct {
		Country      string `toml:"country"`
		Organization string `toml:"organization"`
		Root         string `toml:"root"`       // common name of the client root
		Issuer       string `toml:"issuer"`     // common name of the issuing CA
		Operations   string `toml:"operations"` // common name of the Operations CA
		Site         string `toml:"site"`       // common name of the root of the site's TLS
		// OU replaces the OU of a kind of holder, for example medical = "medical".
		OU map[string]string `toml:"ou"`
	} `toml:"names"`

	Policy struct {
		OID string `toml:"oid"` // certificate policy in holders' certificates
		// HolderKey is the type of keys made here; CAKey of the CAs made by init.
		HolderKey string `toml:"holder_key"`
		CAKey     string `toml:"ca_key"`
		// LettersActivate says when a letter's IDs begin to work: "dispatch" or "issue".
		LettersActivate string `toml:"letters_activate"`
		PoolSize        int    `toml:"pool_size"` // keys made ahead
		// RenewalGraceDays is how long after the end of the old certificate a renewed one may
		// still be downloaded.
		RenewalGraceDays int `toml:"renewal_grace_days"`
		// SessionIdle is the time without a step after which a session of the holders' site
		// ends; what was typed is kept.
		SessionIdle duration `toml:"session_idle"`
	} `toml:"policy"`

	Status struct {
		Listen      string   `toml:"listen"`
		URL         string   `toml:"url"` // in certificates; cannot be changed for those that exist
		CRLLifetime duration `toml:"crl_lifetime"`
		CRLEvery    duration `toml:"crl_every"`
	} `toml:"status"`

	Portal zoneConfig `toml:"portal"`
	// PortalAuth is the zone of the portal whose listener asks for a client certificate.
	PortalAuth zoneConfig `toml:"portal_auth"`
	API        zoneConfig `toml:"api"`
	Internal   struct {
		Listen string `toml:"listen"`
		// DrainLead is how long /ready is red before the listeners close.
		DrainLead duration `toml:"drain_lead"`
	} `toml:"internal"`

	Limits struct {
		ConnectionsPerSource int `toml:"connections_per_source"`
		// SharedNetworks are those in which many institutions share one address; each is one
		// source with larger bounds.
		SharedNetworks       []string `toml:"shared_networks"`
		ConnectionsPerShared int      `toml:"connections_per_shared"`
		// TrustedProxies are the networks of TCP balancers that name the source of each
		// connection by the PROXY protocol, version 2, and do so always.
		TrustedProxies []string `toml:"trusted_proxies"`
	} `toml:"limits"`

	Downloads struct {
		// Dir holds the signed program for terminals; relative to the instance directory.
		Dir string `toml:"dir"`
		// Keys are the public keys of those who may sign it.
		Keys []string `toml:"keys"`
	} `toml:"downloads"`

	Help struct {
		Phone   string `toml:"phone"`
		HoursJA string `toml:"hours_ja"`
		HoursEN string `toml:"hours_en"`
	} `toml:"help"`

	Mail struct {
		SMTP         string `toml:"smtp"` // host:port; "" holds mails back
		From         string `toml:"from"`
		TLS          string `toml:"tls"` // "required", or "none" to this machine only
		Username     string `toml:"username"`
		PasswordFile string `toml:"password_file"`
	} `toml:"mail"`
}

// zoneConfig is one https zone: where it listens and the host names it answers to.
type zoneConfig struct {
	Listen string   `toml:"listen"`
	Hosts  []string `toml:"hosts"` // host or host:port as browsers send it
}

// namedZone is an https zone with its section of the configuration.
type namedZone struct {
	key string
	zoneConfig
}

// https lists the https zones.
func (c Config) https() []namedZone {
	return []namedZone{{"portal", c.Portal}, {"portal_auth", c.PortalAuth}, {"api", c.API}}
}

// duration is a time.Duration written as "24h".
type duration struct{ time.Duration }

var errDuration = errors.New(`must be a time such as "24h" or "10m"`)

func (d *duration) UnmarshalText(text []byte) error {
	var err error
	d.Duration, err = time.ParseDuration(string(text))
	if err != nil {
		return errDuration
	}
	return nil
}

func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// defaultConfig is the configuration of an empty file: ports N+443 and so on for
// port base N.
func defaultConfig(portBase int) Config {
	var c Config
	at := func(offset int) string { return fmt.Sprintf("127.0.0.1:%d", portBase+offset) }
	c.Mode = "live"
	c.Signer.Dir, c.Signer.Socket, c.Signer.PassphraseFile = "signer", "signer.sock", "signer/passphrase"
	c.Signer.Child, c.Signer.EdgeUser, c.Signer.RatePerMinute = true, -1, 6000
	c.Names.Country, c.Names.Organization = "JP", "ReceiptOnline"
	c.Names.Root, c.Names.Issuer = "Online Billing NW Common Root CA", "Online Billing NW Common Root CA - G1"
	c.Names.Operations, c.Names.Site = "Inkan Operations CA", "Inkan Site Root CA"
	c.Policy.OID = "1.3.6.1.4.1.32473.1.1" // the arc for documentation (RFC 5612); a live CA has its own
	c.Policy.HolderKey, c.Policy.CAKey = string(pki.RSA2048), string(pki.RSA3072)
	c.Policy.LettersActivate, c.Policy.PoolSize = "dispatch", 200
	c.Policy.RenewalGraceDays, c.Policy.SessionIdle = 30, duration{30 * time.Minute}
	c.Status.Listen, c.Status.URL = at(80), "http://"+at(80)
	c.Status.CRLLifetime, c.Status.CRLEvery = duration{24 * time.Hour}, duration{time.Hour}
	c.Portal = zoneConfig{Listen: at(443), Hosts: []string{at(443)}}
	c.PortalAuth = zoneConfig{Listen: at(444), Hosts: []string{at(444)}}
	c.API = zoneConfig{Listen: at(446), Hosts: []string{at(446)}}
	c.Internal.Listen = at(90)
	c.Limits.ConnectionsPerSource, c.Limits.ConnectionsPerShared, c.Limits.SharedNetworks = 256, 4096, []string{}
	c.Downloads.Dir, c.Downloads.Keys = "downloads", []string{}
	c.Limits.TrustedProxies = []string{}
	c.Help.HoursJA, c.Help.HoursEN = "月〜金 8:00〜18:00、土 8:00〜16:00（祝日を除く）", "Mon–Fri 8:00–18:00, Sat 8:00–16:00, not on holidays"
	c.Mail.From, c.Mail.TLS = "no-reply@localhost", "required"
	return c
}

// defaultPortBase is N of the default ports N+443, N+446, N+80 …
const defaultPortBase = 8000

// issuance gives the part of the configuration that certificates speak of.
func (c Config) issuance() issuance.Config {
	ou := map[pki.HolderKind]string{}
	for kind, value := range c.Names.OU {
		ou[pki.HolderKind(kind)] = value
	}
	return issuance.Config{Country: c.Names.Country, Organization: c.Names.Organization, PolicyOID: c.Policy.OID,
		StatusURL: c.Status.URL, KindOU: ou, Demo: c.Mode == "demo"}
}

// perSource gives the bounds of connections.
func (c Config) perSource() webkit.PerSource {
	return webkit.PerSource{Most: c.Limits.ConnectionsPerSource, MostShared: c.Limits.ConnectionsPerShared, Shared: prefixes(c.Limits.SharedNetworks)}
}

// proxies gives the networks of proxies.
func (c Config) proxies() webkit.Proxies { return prefixes(c.Limits.TrustedProxies) }

// prefixes reads networks; what is none is told by faults.
func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		n, err := netip.ParsePrefix(text)
		if err == nil {
			out = append(out, n)
		}
	}
	return out
}

func (c Config) dsn(dir string) string {
	if c.Database.DSN != "" {
		return c.Database.DSN
	}
	u := url.URL{Scheme: "sqlite", Path: filepath.ToSlash(filepath.Join(dir, "inkan.db"))}
	return u.String()
}

// place says where the key of a CA lives.
func (c Config) place(dir, id string) keystore.Place {
	uri := c.Signer.Keys[id]
	if uri == "" {
		uri = keystore.KeyURI(id)
	}
	return keystore.Place{URI: uri, PINFile: c.pinFile(dir)}
}

// pinFile gives the file with the PIN of tokens; "" where there is none. The edge may
// know the name; only the signer, and init, read the file.
func (c Config) pinFile(dir string) string {
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	if credentials != "" {
		path := filepath.Join(credentials, pinCredential)
		_, err := os.Lstat(path)
		if err == nil {
			return path
		}
	}
	if c.Signer.PINFile == "" {
		return ""
	}
	return inside(dir, c.Signer.PINFile)
}

// sqliteFile gives the file of an SQLite database; "" for PostgreSQL.
func (c Config) sqliteFile(dir string) string {
	u, err := url.Parse(c.dsn(dir))
	if err != nil || u.Scheme != "sqlite" {
		return ""
	}
	return filepath.FromSlash(u.Path)
}

// inside resolves a path of the configuration against the instance directory.
func inside(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// write writes the configuration for people to read and change.
func (c Config) write(path string) error {
	var b bytes.Buffer
	b.WriteString("# Configuration of this Inkan instance. What is left out has its default;\n# `inkan check-config` lists every problem at once. docs/CONFIG.md explains each key.\n\n")
	err := toml.NewEncoder(&b).Encode(c)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}
