package app

import (
	"encoding"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/release"
)

// fault is one thing that is wrong with a configuration.
type fault struct {
	key  string // "portal.listen"; "" where it is the file as such
	line int    // 0 where the key does not stand in the file
	text string
}

func (f fault) String() string {
	var out string
	if f.line > 0 {
		out = fmt.Sprintf("line %d: ", f.line)
	}
	if f.key != "" {
		out += f.key + ": "
	}
	return out + f.text
}

// loadConfig reads and checks the configuration of an instance.
func loadConfig(dir string) (Config, error) {
	c, faults, err := readConfig(filepath.Join(dir, configFile))
	if errors.Is(err, os.ErrNotExist) {
		return c, pki.E(pki.NotFound, "instance.none").With("Dir", dir)
	}
	if err != nil {
		return c, err
	}
	return c, refuse(configFile, faults...)
}

// readConfig reads a configuration file and everything that is wrong with it.
func readConfig(path string) (Config, []fault, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, nil, pki.E(pki.Invalid, "config.unreadable").With("File", path).Because(err)
	}
	c, faults := parseConfig(string(raw))
	return c, faults, nil
}

// refuse makes one error of all faults of a file; nil of none.
func refuse(file string, faults ...fault) error {
	if len(faults) == 0 {
		return nil
	}
	texts := make([]string, len(faults))
	for n, f := range faults {
		texts[n] = f.String()
	}
	return pki.E(pki.Invalid, "config.invalid").With("Problems", file+" "+strings.Join(texts, "; "))
}

// parseConfig decodes strictly and lists everything at once: wrong types, unknown keys
// and impossible values, in the order of the file.
func parseConfig(text string) (Config, []fault) {
	var tree map[string]any
	_, err := toml.Decode(text, &tree)
	if err != nil {
		return defaultConfig(defaultPortBase), []fault{syntaxFault(err)}
	}
	faults := takeOut(tree, reflect.TypeFor[Config](), "")
	c := defaultConfig(defaultPortBase)
	var right strings.Builder
	err = toml.NewEncoder(&right).Encode(tree)
	if err == nil {
		_, err = toml.Decode(right.String(), &c)
	}
	if err != nil {
		return c, place(append(faults, syntaxFault(err)), text)
	}
	return c, place(append(faults, c.faults()...), text)
}

func syntaxFault(err error) fault {
	at, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return fault{text: err.Error()}
	}
	return fault{line: at.Position.Line, key: at.LastKey, text: at.Message}
}

// takeOut takes from a table of the file what the configuration has no place for, and tells
// of it. section is the table's name with a dot, "" for the file.
func takeOut(table map[string]any, of reflect.Type, section string) []fault {
	var faults []fault
	for name, value := range table {
		field, known := fieldOf(of, name)
		text := ""
		switch inner, isTable := value.(map[string]any); {
		case !known:
			text = "unknown key; " + knownKeys(of, section)
		case isTable && isSection(field):
			faults = append(faults, takeOut(inner, field, section+name+".")...)
		default:
			text = misfit(value, field)
		}
		if text != "" {
			faults = append(faults, fault{key: section + name, text: text})
			delete(table, name)
		}
	}
	return faults
}

// fieldOf gives the type of a key in a table. A table of texts takes every key.
func fieldOf(table reflect.Type, key string) (reflect.Type, bool) {
	if table.Kind() == reflect.Map {
		return table.Elem(), true
	}
	for f := range table.Fields() {
		if f.Tag.Get("toml") == key {
			return f.Type, true
		}
	}
	return nil, false
}

func isSection(t reflect.Type) bool { return t.Kind() == reflect.Map || isStruct(t) }

func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// misfit says what a value must be that is not of the type of its key; "" where it is.
func misfit(value any, want reflect.Type) string {
	text, isText := value.(string)
	if reader, ok := reflect.New(want).Interface().(encoding.TextUnmarshaler); ok {
		err := reader.UnmarshalText([]byte(text))
		if err != nil || !isText {
			return errDuration.Error()
		}
		return ""
	}
	list, isList := value.([]any)
	_, isNumber := value.(int64)
	_, isYes := value.(bool)
	switch want.Kind() {
	case reflect.String:
		if !isText {
			return "must be a text in quotes"
		}
	case reflect.Int:
		if !isNumber {
			return "must be a whole number"
		}
	case reflect.Bool:
		if !isYes {
			return "must be true or false"
		}
	case reflect.Slice:
		if !isList {
			return "must be a list in brackets"
		}
		for _, element := range list {
			text := misfit(element, want.Elem())
			if text != "" {
				return "each of the list " + text
			}
		}
	default:
		return "must be a section of its own, in brackets"
	}
	return ""
}

// knownKeys names the keys of a section, or of the file its sections, too.
func knownKeys(of reflect.Type, section string) string {
	what := "known are"
	if section != "" {
		what = "[" + strings.TrimSuffix(section, ".") + "] has"
	}
	var names []string
	for f := range of.Fields() {
		name := f.Tag.Get("toml")
		if isSection(f.Type) {
			name = "[" + name + "]"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return what + " " + strings.Join(names, ", ")
}

// place finds the line of each key, and sorts by it.
func place(faults []fault, text string) []fault {
	at, section := map[string]int{}, ""
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.TrimSpace(strings.Trim(strings.Split(line, "#")[0], "[] \t")) + "."
			at[strings.TrimSuffix(section, ".")] = n + 1
			continue
		}
		key, _, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") {
			at[section+strings.ReplaceAll(strings.TrimSpace(key), `"`, "")] = n + 1
		}
	}
	for n, f := range faults {
		if f.line == 0 {
			faults[n].line = at[f.key]
		}
	}
	slices.SortStableFunc(faults, func(a, b fault) int { return a.line - b.line })
	return faults
}

// maxDrainLead is far below the patience of a service manager that stops us.
const maxDrainLead = time.Minute

// faults lists everything that is wrong with the values.
func (c Config) faults() []fault {
	var out []fault
	bad := func(is bool, key, format string, args ...any) {
		if is {
			out = append(out, fault{key: key, text: fmt.Sprintf(format, args...)})
		}
	}
	bad(c.Mode != "live" && c.Mode != "demo", "mode", `%q is neither "live" nor "demo"`, c.Mode)
	taken := map[string]string{}
	listens := []struct{ key, value string }{{"status.listen", c.Status.Listen}, {"internal.listen", c.Internal.Listen}}
	for _, z := range c.https() {
		listens = append(listens, struct{ key, value string }{z.key + ".listen", z.Listen})
	}
	for _, l := range listens {
		host, port, err := net.SplitHostPort(l.value)
		bad(err != nil, l.key, "%q is not of the form host:port", l.value)
		number, notNumber := strconv.ParseUint(port, 10, 16)
		bad(err == nil && (notNumber != nil || number == 0), l.key, "%q: the port is a number from 1 to 65535", l.value)
		bad(err == nil && taken[l.value] != "", l.key, "%q is the address of %s already", l.value, taken[l.value])
		taken[l.value] = l.key
		ip := net.ParseIP(host)
		outside := err == nil && (ip == nil || !ip.IsLoopback())
		bad(outside && c.Mode == "demo", l.key, "%q: a demo listens on this machine only, at 127.0.0.1", l.value)
		bad(outside && c.Mode != "demo" && l.key == "internal.listen", l.key, "%q: health and metrics are for this machine only, at 127.0.0.1", l.value)
	}
	u, err := url.Parse(c.Status.URL)
	bad(err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "", "status.url", "%q is not of the form http://host or http://host:port", c.Status.URL)
	// Browsers share a connection between names of one certificate, so zones share no
	// name (threat RS4); an address is told apart by its port.
	for n, z := range c.https() {
		bad(len(z.Hosts) == 0, z.key+".hosts", "is empty")
		for _, earlier := range c.https()[:n] {
			for _, h := range z.Hosts {
				same := slices.ContainsFunc(earlier.Hosts, func(other string) bool {
					return h == other || net.ParseIP(hostOnly(h)) == nil && hostOnly(h) == hostOnly(other)
				})
				bad(same, z.key+".hosts", "%q is a host of %s already", h, earlier.key)
			}
		}
	}
	bad(!slices.Contains(pki.KeyTypes(), pki.KeyType(c.Policy.HolderKey)), "policy.holder_key", "%q is none of %v", c.Policy.HolderKey, pki.KeyTypes())
	bad(!slices.Contains(pki.KeyTypes(), pki.KeyType(c.Policy.CAKey)), "policy.ca_key", "%q is none of %v", c.Policy.CAKey, pki.KeyTypes())
	bad(c.Policy.LettersActivate != "dispatch" && c.Policy.LettersActivate != "issue", "policy.letters_activate", `%q is neither "dispatch" nor "issue"`, c.Policy.LettersActivate)
	bad(c.Policy.PoolSize < 0 || c.Policy.PoolSize > 100000, "policy.pool_size", "%d is not between 0 and 100000", c.Policy.PoolSize)
	bad(c.Policy.RenewalGraceDays < 0 || c.Policy.RenewalGraceDays > 365, "policy.renewal_grace_days", "%d is not between 0 and 365", c.Policy.RenewalGraceDays)
	bad(c.Policy.SessionIdle.Duration < time.Minute || c.Policy.SessionIdle.Duration > 12*time.Hour, "policy.session_idle", "%s is not between 1m and 12h", c.Policy.SessionIdle)
	bad(c.Status.CRLEvery.Duration < time.Minute, "status.crl_every", "%s is less than 1m", c.Status.CRLEvery)
	bad(c.Status.CRLLifetime.Duration < 2*c.Status.CRLEvery.Duration, "status.crl_lifetime", "%s is less than twice status.crl_every", c.Status.CRLLifetime)
	bad(c.Signer.RatePerMinute < 1, "signer.rate_per_minute", "%d is less than 1", c.Signer.RatePerMinute)
	ours := []string{".", "ca", "edge", "offline", filepath.Clean(c.Signer.Dir)} // others may read the downloads
	downloads := filepath.Clean(c.Downloads.Dir)
	bad(slices.Contains(ours, downloads) || strings.HasPrefix(downloads, ".."), "downloads.dir", "%q is not a directory of its own", c.Downloads.Dir)
	for _, key := range c.Downloads.Keys {
		_, err := release.ParseKeys([]string{key})
		bad(err != nil, "downloads.keys", "%q is no public key as inkan release key prints it", key)
	}
	for id, uri := range c.Signer.Keys {
		bad(!slices.Contains(online, id), "signer.keys."+id, "there is no such CA whose key the signer holds; there are %v", online)
		text := keyFault(uri)
		bad(text != "", "signer.keys."+id, "%s", text)
	}
	bad(c.Mail.TLS != "required" && c.Mail.TLS != "none", "mail.tls", `%q is neither "required" nor "none"`, c.Mail.TLS)
	bad(c.Internal.DrainLead.Duration < 0 || c.Internal.DrainLead.Duration > maxDrainLead, "internal.drain_lead", "%s is not between 0s and %s", c.Internal.DrainLead, maxDrainLead)
	bad(c.Limits.ConnectionsPerSource < 1, "limits.connections_per_source", "%d is less than 1", c.Limits.ConnectionsPerSource)
	bad(c.Limits.ConnectionsPerShared < 1, "limits.connections_per_shared", "%d is less than 1", c.Limits.ConnectionsPerShared)
	for _, text := range c.Limits.SharedNetworks {
		_, err := netip.ParsePrefix(text)
		bad(err != nil, "limits.shared_networks", "%q is not of the form 192.0.2.0/24", text)
	}
	for _, text := range c.Limits.TrustedProxies {
		n, err := netip.ParsePrefix(text)
		bad(err != nil, "limits.trusted_proxies", "%q is not of the form 192.0.2.1/32", text)
		bad(err == nil && n.Bits() == 0, "limits.trusted_proxies", "%q is everybody: anybody could name any source", text)
	}
	for kind := range c.Names.OU {
		_, ok := pki.HolderKind(kind).Info()
		bad(!ok, "names.ou."+kind, "there is no such kind of holder")
	}
	// What is a demo says so in every certificate, and nothing else does (threat PL1).
	for _, n := range []struct{ key, value string }{{"names.root", c.Names.Root}, {"names.issuer", c.Names.Issuer}} {
		bad(c.Mode == "demo" && !strings.Contains(n.value, "DEMO"), n.key, "%q: the names of a demo contain DEMO", n.value)
		bad(c.Mode == "live" && strings.Contains(n.value, "DEMO"), n.key, "%q: the names of a live CA do not contain DEMO", n.value)
	}
	return out
}

// keyFault says what is wrong with the place of a key, without repeating it: there may
// be a PIN in it.
func keyFault(uri string) string {
	err := keystore.CheckKeyURI(uri)
	e, _ := errors.AsType[*pki.Error](err)
	switch {
	case err == nil:
		return ""
	case e.Code == "token.pin_value":
		return "the PIN does not belong here; signer.pin_file names its file"
	case e.Code == "token.uri":
		return fmt.Sprintf("%v is missing or wrong; want pkcs11:token=LABEL;object=NAME?module-path=/PATH/LIBRARY.so", e.Args["Part"])
	}
	return `is neither "pkcs11:…" nor "file:…" below signer.dir`
}
