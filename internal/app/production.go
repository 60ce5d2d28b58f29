package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"inkan/internal/i18n"
	"inkan/internal/pki"
)

// verdict is what one line of check-config --production found.
type verdict string

const (
	right   verdict = "right"
	amiss   verdict = "wrong"
	unknown verdict = "unknown" // this account or this machine cannot tell
)

var signs = map[verdict]string{right: "✔", amiss: "✘", unknown: "–"}

// found is one line of the list.
type found struct {
	ID      string  `json:"id"` // H1 … H14 of the hardening list, or the threat
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Detail  string  `json:"detail,omitempty"` // what was seen; a name, a mode, a value
	Text    string  `json:"text"`
	Hint    string  `json:"hint,omitempty"`
}

// production is what the list is made from: the configuration, the instance directory,
// and the machine below root, which tests put elsewhere.
type production struct {
	dir    string
	config Config
	root   string // "/"
	clock  func() (synchronised bool, err error)
}

// check is one line of the list: its words are production.<name> and its hint's.
type check struct {
	id, name string
	look     func(production) (verdict, string)
}

// cannotTell is for what lies outside this machine; the words say where to look.
func cannotTell(production) (verdict, string) { return unknown, "" }

// checks is the list, in the order of docs/OPERATE.md.
var checks = []check{
	{"PL1", "mode", func(p production) (verdict, string) { return is(p.config.Mode == "live"), p.config.Mode }},
	{"PL1", "policy_oid", func(p production) (verdict, string) {
		return is(!strings.HasPrefix(p.config.Policy.OID+".", documentationArc)), p.config.Policy.OID
	}},
	{"H1", "edge_user", production.edgeUser},
	{"H1", "signer_user", production.signerUser},
	{"H2", "units", cannotTell},
	{"H3", "passphrase", production.passphrase},
	{"H4", "swap", production.swap},
	{"H4", "core", production.core},
	{"H4", "ptrace", production.ptrace},
	{"H4", "hibernation", production.hibernation},
	{"H5", "modes", production.modes},
	{"H5", "secrets_here", production.secretsHere},
	{"H6", "database_roles", production.databaseRoles},
	{"PL6", "database_link", production.databaseLink},
	{"H7", "listeners", production.listeners},
	{"H7", "names", production.names},
	{"H7", "mail", production.mail},
	{"H8", "proxy", cannotTell},
	{"H9", "clock", production.synchronised},
	{"H10", "witness", cannotTell},
	{"H11", "backup", cannotTell},
	{"H12", "hsm", production.hsm},
	{"H13", "root_key", production.rootKey},
	{"H14", "logs", cannotTell},
}

// documentationArc is the arc for examples (RFC 5612): nobody's policy.
const documentationArc = "1.3.6.1.4.1.32473."

func is(good bool) verdict {
	if good {
		return right
	}
	return amiss
}

// inspect goes through the list.
func (p production) inspect(lang string) []found {
	out := make([]found, len(checks))
	for n, c := range checks {
		v, detail := c.look(p)
		out[n] = found{ID: c.id, Check: c.name, Verdict: v, Detail: detail, Text: i18n.Text(lang, "production."+c.name, nil)}
		if v != right {
			out[n].Hint = i18n.Text(lang, "production."+c.name+".hint", nil)
		}
	}
	return out
}

// checkProduction prints the list; the error says that something of it is not right.
func (c *cli) checkProduction(_ context.Context, lang string) error {
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return fmt.Errorf("resolve directory: %w", err)
	}
	config, err := loadConfig(dir)
	if err != nil {
		return err
	}
	p := production{dir: dir, config: config, root: "/", clock: clockSynchronised}
	all := p.inspect(lang)
	if c.json {
		err = c.print(all)
		if err != nil {
			return err
		}
	}
	bad := 0
	for _, f := range all {
		if f.Verdict == amiss {
			bad++
		}
		if !c.json {
			c.tellFound(f)
		}
	}
	if bad > 0 {
		return pki.E(pki.Forbidden, "production.wrong").With("Count", bad)
	}
	return nil
}

func (c *cli) tellFound(f found) {
	detail := ""
	if f.Detail != "" {
		detail = " (" + oneLine(f.Detail) + ")"
	}
	c.say("%s %-4s %s%s", signs[f.Verdict], f.ID, f.Text, detail)
	if f.Hint != "" {
		c.say("       %s", f.Hint)
	}
}

// spoken is the language of a list for people: --lang, else that of the terminal.
func (c *cli) spoken(chosen bool) string {
	if chosen {
		return c.lang
	}
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		value := os.Getenv(name)
		language, _, _ := strings.Cut(value, "_")
		if slices.Contains(i18n.Languages, language) {
			return language
		}
		if value != "" {
			break // C, or a language that we do not speak
		}
	}
	return c.lang
}
