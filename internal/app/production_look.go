package app

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// owner gives the numeric user ID that a file belongs to.
func owner(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("no owner is known")
	}
	return int(stat.Uid), nil
}

// edgeUser: the instance belongs to a service account that nobody logs in with.
func (p production) edgeUser() (verdict, string) {
	uid, err := owner(p.dir)
	if err != nil {
		return unknown, err.Error()
	}
	name, shell := p.account(uid)
	switch {
	case uid == 0:
		return amiss, "root"
	case name == "":
		return unknown, strconv.Itoa(uid)
	}
	base := filepath.Base(shell)
	return is(base == "nologin" || base == "false"), name + " " + shell
}

// account finds name and shell of a user ID.
func (p production) account(uid int) (string, string) {
	f, err := os.Open(filepath.Join(p.root, "etc/passwd"))
	if err != nil {
		return "", ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) == 7 && fields[2] == strconv.Itoa(uid) {
			return fields[0], fields[6]
		}
	}
	return "", ""
}

// signerUser: the signer is no child of the edge, and its socket, which it made, belongs
// to another user. H16.
func (p production) signerUser() (verdict, string) {
	if p.config.Signer.Child {
		return amiss, "signer.child = true"
	}
	edge, err := owner(p.dir)
	if err != nil {
		return unknown, err.Error()
	}
	signer, err := owner(inside(p.dir, p.config.Signer.Socket))
	if err != nil {
		return unknown, err.Error()
	}
	name, _ := p.account(signer)
	return is(signer != edge && signer != 0), strings.TrimSpace(name + " " + strconv.Itoa(signer))
}

// passphrase: it comes as a credential; no file with it lies beside the vault.
func (p production) passphrase() (verdict, string) {
	path := inside(p.dir, p.config.Signer.PassphraseFile)
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return amiss, path
	case errors.Is(err, fs.ErrNotExist) && !p.config.Signer.Child:
		return right, ""
	case errors.Is(err, fs.ErrNotExist):
		return unknown, path
	}
	return unknown, err.Error()
}

// swap: there is none, or it is encrypted.
func (p production) swap() (verdict, string) {
	raw, err := os.ReadFile(filepath.Join(p.root, "proc/swaps"))
	if err != nil {
		return unknown, err.Error()
	}
	for n, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		fields := strings.Fields(line)
		if n == 0 || len(fields) == 0 {
			continue // the heading
		}
		device := filepath.Base(fields[0])
		real, err := filepath.EvalSymlinks(filepath.Join(p.root, fields[0]))
		if err == nil {
			device = filepath.Base(real)
		}
		uuid, err := os.ReadFile(filepath.Join(p.root, "sys/block", device, "dm/uuid"))
		if err != nil || !strings.HasPrefix(string(uuid), "CRYPT-") {
			return amiss, fields[0]
		}
	}
	return right, ""
}

func (p production) read(path string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(p.root, path))
	return strings.TrimSpace(string(raw)), err
}

// core: no program takes what processes had in memory.
func (p production) core() (verdict, string) {
	pattern, err := p.read("proc/sys/kernel/core_pattern")
	if err != nil {
		return unknown, err.Error()
	}
	return is(!strings.HasPrefix(pattern, "|")), pattern
}

func (p production) ptrace() (verdict, string) {
	scope, err := p.read("proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return unknown, err.Error()
	}
	return is(scope != "0"), scope
}

func (p production) hibernation() (verdict, string) {
	states, err := p.read("sys/power/state")
	if errors.Is(err, fs.ErrNotExist) {
		return right, ""
	}
	if err != nil {
		return unknown, err.Error()
	}
	disk, _ := p.read("sys/power/disk")
	off := !strings.Contains(" "+states+" ", " disk ") || strings.Contains(disk, "[disabled]")
	return is(off), states
}

func (p production) modes() (verdict, string) {
	err := checkModes(p.dir, p.config)
	if err == nil {
		return right, ""
	}
	var said []string
	for _, one := range flatten(err) {
		text, _ := (&cli{lang: "en"}).words(one)
		said = append(said, text)
	}
	return amiss, strings.Join(said, " ")
}

// secretsHere: passwords of operators and the files that hold them are with their owners.
func (p production) secretsHere() (verdict, string) {
	files, err := filepath.Glob(filepath.Join(p.dir, "*.p12"))
	if err != nil {
		return unknown, err.Error()
	}
	if len(files) == 0 {
		return right, ""
	}
	return amiss, fmt.Sprintf("%s, %d", filepath.Base(files[0]), len(files))
}

// databaseRoles: SQLite has none. On PostgreSQL the role that serves owns the tables, so
// far.
func (p production) databaseRoles() (verdict, string) {
	if p.config.sqliteFile(p.dir) != "" {
		return right, "SQLite"
	}
	return unknown, "PostgreSQL"
}

// databaseLink: a file, a unix socket, or TLS that knows whom it talks to.
func (p production) databaseLink() (verdict, string) {
	if p.config.sqliteFile(p.dir) != "" {
		return right, "SQLite"
	}
	u, err := url.Parse(p.config.Database.DSN)
	if err != nil {
		return unknown, "database.dsn"
	}
	q := u.Query()
	local := u.Host == "" && strings.HasPrefix(q.Get("host"), "/") || strings.HasPrefix(u.Host, "%2F") || strings.HasPrefix(u.Hostname(), "/")
	mode := q.Get("sslmode")
	return is(local || mode == "verify-full"), "sslmode=" + mode
}

// listeners: the public zones can be reached from elsewhere.
func (p production) listeners() (verdict, string) {
	var local []string
	for _, address := range []string{p.config.Portal.Listen, p.config.PortalAuth.Listen, p.config.API.Listen, p.config.Status.Listen} {
		ip := net.ParseIP(hostOnly(address))
		if ip != nil && ip.IsLoopback() {
			local = append(local, address)
		}
	}
	return is(len(local) == 0), strings.Join(local, " ")
}

// names: every zone has a name that is no address, and no two have the same.
func (p production) names() (verdict, string) {
	seen := map[string]string{}
	hosts := map[string][]string{"portal.hosts": p.config.Portal.Hosts, "portal_auth.hosts": p.config.PortalAuth.Hosts, "api.hosts": p.config.API.Hosts, "status.url": nil}
	u, err := url.Parse(p.config.Status.URL)
	if err == nil {
		hosts["status.url"] = []string{u.Host}
	}
	for _, key := range []string{"portal.hosts", "portal_auth.hosts", "api.hosts", "status.url"} {
		for _, h := range hosts[key] {
			name := hostOnly(h)
			other, known := seen[name]
			if known && other != key || net.ParseIP(name) != nil || name == "localhost" || name == "" {
				return amiss, key + " " + h
			}
			seen[name] = key
		}
	}
	return right, ""
}

func (p production) mail() (verdict, string) {
	m := p.config.Mail
	if m.SMTP == "" {
		return unknown, `mail.smtp = ""`
	}
	return is(m.TLS == "required" && !strings.HasSuffix(m.From, "@localhost")), m.From + ", tls = " + m.TLS
}

func (p production) synchronised() (verdict, string) {
	good, err := p.clock()
	if err != nil {
		return unknown, err.Error()
	}
	return is(good), ""
}

// clockSynchronised asks the kernel whether somebody keeps its clock right.
func clockSynchronised() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}

// hsm: the issuing CA's key is in a token, and that is not SoftHSM.
func (p production) hsm() (verdict, string) {
	uri := p.config.Signer.Keys["g1"]
	if uri == "" {
		return amiss, "signer.keys.g1"
	}
	return is(strings.HasPrefix(uri, "pkcs11:") && !strings.Contains(strings.ToLower(uri), "softhsm")), redactURI(uri)
}

// rootKey: it was carried away after init.
func (p production) rootKey() (verdict, string) {
	path := filepath.Join(p.dir, "offline", "root.key.age")
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return amiss, path
	case errors.Is(err, fs.ErrNotExist):
		return right, ""
	}
	return unknown, err.Error()
}
