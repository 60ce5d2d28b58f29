package app

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"inkan/internal/delivery"
	"inkan/internal/issuance"
	"inkan/internal/mail/sink"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/release"
)

// demoJSON is demo.json of the contract.
type demoJSON struct {
	Portal     string            `json:"portal"`
	PortalAuth string            `json:"portalAuth"`
	Console    string            `json:"console"`
	API        string            `json:"api"`
	Status     string            `json:"status"`
	Mail       string            `json:"mail"`
	TLSRoot    string            `json:"tlsRoot"`
	ClientRoot string            `json:"clientRoot"`
	Issuer     string            `json:"issuer"`
	Operators  []demoOperator    `json:"operators"`
	Samples    []demoSample      `json:"samples"`
	APIClient  map[string]string `json:"api-client"`
}

type demoOperator struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	P12      string `json:"p12"`
	Password string `json:"password"`
}

type demoSample struct {
	Purpose     string `json:"purpose"`
	RequestID   string `json:"requestId"`
	ReferenceID string `json:"referenceId"`
	HolderCode  string `json:"holderCode"`
	Terminal    string `json:"terminalName"`
	Serial      string `json:"serial"`
	P12         string `json:"p12,omitempty"`
	Password    string `json:"password,omitempty"`
}

// demoPIN opens every sample's PKCS#12 file.
const demoPIN = "1234"

func (c *cli) demoCommand() *cobra.Command {
	var portBase int
	cmd := &cobra.Command{Use: "demo", Short: "an instance with sample data, ready to try, on this machine only"}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if portBase < 1 || portBase > 65535-446 {
			return &usageError{"demo", fmt.Errorf("--port-base %d: 1 to %d", portBase, 65535-446)}
		}
		d := &demo{cli: c, portBase: portBase}
		return d.run(cmd.Context())
	}
	cmd.Flags().IntVar(&portBase, "port-base", defaultPortBase, "N of the ports N+443, N+446, N+80, N+25, N+90")
	return cmd
}

type demo struct {
	*cli
	portBase int
	out      demoJSON
}

func (d *demo) run(ctx context.Context) error {
	mails, err := startMailSink(d.portBase, d.logger(true))
	if err != nil {
		return err
	}
	defer mails.close()
	config := defaultConfig(d.portBase)
	config.Mode = "demo"
	config.Names.Root, config.Names.Issuer = "Online Billing NW Common Root CA DEMO", "Online Billing NW Common Root CA DEMO - G1"
	config.Names.Operations, config.Names.Site = "Inkan Operations CA DEMO", "Inkan Site Root CA DEMO"
	config.Policy.OID = "1.3.6.1.4.1.32473.999.1" // a test arc (threat PL1)
	config.Policy.LettersActivate, config.Policy.PoolSize = "issue", 10
	config.Signer.RatePerMinute = 1_000_000
	config.Mail.SMTP, config.Mail.TLS = mails.address, "none"
	private, public, err := release.NewKey("DEMO-release")
	if err != nil {
		return err
	}
	config.Downloads.Keys = []string{public}
	in := &ceremony{dir: d.dir, config: config, log: d.logger(false), progress: d.stderr, workFactor: 12, operators: demoOperators()}
	err = in.run(ctx)
	if err != nil {
		return err
	}
	err = writeNew(filepath.Join(d.dir, "release.key"), private.Reveal()+"\n")
	if err != nil {
		return fmt.Errorf("write release key: %w", err)
	}
	i, err := open(ctx, d.dir, d.logger(true))
	if err != nil {
		return err
	}
	defer i.close()
	s, err := newServer(i)
	if err != nil {
		return err
	}
	err = d.seed(ctx, i)
	if err != nil {
		return err
	}
	return s.run(ctx, func() {
		err := d.announce(i)
		if err != nil {
			i.log.Error("demo.json", "err", err)
		}
	})
}

// demoOperators are the people of the demo: enough that four eyes can be tried.
func demoOperators() []newOperator {
	rows := []struct {
		id, name string
		roles    []pki.Role
	}{
		{"intake", "受付担当", []pki.Role{pki.RoleIntake}},
		{"approver-1", "承認担当 1", []pki.Role{pki.RoleApprover}},
		{"approver-2", "承認担当 2", []pki.Role{pki.RoleApprover}},
		{"letters", "発送担当", []pki.Role{pki.RoleLetters}},
		{"officer", "失効担当", []pki.Role{pki.RoleOfficer}},
		{"admin", "管理者", []pki.Role{pki.RoleAdmin, pki.RoleAuditor}},
		{"officer-2", "失効担当 2", []pki.Role{pki.RoleOfficer}},
		{"admin-2", "管理者 2", []pki.Role{pki.RoleAdmin}},
	}
	out := make([]newOperator, len(rows))
	for n, r := range rows {
		out[n] = newOperator{ID: r.id, Name: r.name, Roles: r.roles, File: fmt.Sprintf("operator-%d.p12", n+1), Password: "demo-" + pki.Secret(r.id)}
	}
	return out
}

// seed makes the samples and the API client.
func (d *demo) seed(ctx context.Context, i *instance) error {
	stop, err := i.ensureSigner(ctx)
	if err != nil {
		return err
	}
	defer stop()
	_, _ = fmt.Fprintln(d.stderr, "inkan: making samples")
	today := now()
	ends := func(days int) time.Time { return pki.AddMonths(today.AddDate(0, 0, days), -pki.ValidityMonths) }
	samples := []struct {
		purpose, terminal string
		holder            pki.Holder
		begins            time.Time
		file              madeBy
		reason            pki.Reason
	}{
		{"download", "受付1号機", pki.Holder{Kind: pki.Medical, Code: "0110119153"}, time.Time{}, nobody, 0},
		{"renew", "受付2号機", pki.Holder{Kind: pki.Medical, Code: "0110119153"}, ends(60), theHolder, 0},
		{"renew-2", "受付3号機", pki.Holder{Kind: pki.Medical, Code: "0110119153"}, ends(20), theHolder, 0},
		{"revoke", "調剤室1号機", demoCode(pki.Pharmacy, "134012345"), time.Time{}, theHolder, 0},
		{"expired", "診察室1号機", demoCode(pki.Dental, "273054321"), ends(-10), theDemo, 0},
		{"revoked", "事務室1号機", demoCode(pki.Medical, "231076543"), time.Time{}, theHolder, pki.KeyCompromise},
		{"fresh", "訪問1号機", demoCode(pki.Visiting, "406098765"), time.Time{}, nobody, 0},
	}
	for _, s := range samples {
		sample, err := d.sample(ctx, i, s.purpose, s.terminal, s.holder, s.begins, s.file)
		if err != nil {
			return fmt.Errorf("sample %s: %w", s.purpose, err)
		}
		if s.reason != 0 {
			by, err := i.ops.Assert(ctx, "officer", "demo")
			if err != nil {
				return err
			}
			_, err = i.ra.Revoke(ctx, by, sample.Serial, s.reason, "demo")
			if err != nil {
				return err
			}
		}
		d.out.Samples = append(d.out.Samples, sample)
	}
	return d.seedClient(ctx, i)
}

func demoCode(kind pki.HolderKind, body string) pki.Holder {
	return pki.Holder{Kind: kind, Code: body + string(pki.CheckDigit(body))}
}

// madeBy says whose download made the PKCS#12 file of a sample.
type madeBy int

const (
	nobody    madeBy = iota // it waits to be downloaded
	theHolder               // at the download site
	theDemo                 // with a key of its own, where the site refuses a file
)

// sample goes the way of every request: entered by one, approved by another, issued,
// its letter read by a third.
func (d *demo) sample(ctx context.Context, i *instance, purpose, terminal string, holder pki.Holder, begins time.Time, file madeBy) (demoSample, error) {
	out := demoSample{Purpose: purpose, HolderCode: holder.Code, Terminal: terminal}
	actors := map[string]pki.Actor{}
	for _, id := range []string{"intake", "approver-1", "letters"} {
		by, err := i.ops.Assert(ctx, id, "demo")
		if err != nil {
			return out, err
		}
		actors[id] = by
	}
	in := ra.Submission{Source: pki.FromOperator, NotBefore: begins, Application: pki.Application{Holder: holder, TerminalName: terminal, Email: "clinic@example.jp", Department: "医事課", PaymentMethod: 1}}
	var key crypto.Signer
	var err error
	if file == theDemo {
		key, err = issuance.GenerateKey(pki.RSA2048)
		if err != nil {
			return out, err
		}
		in.Application.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return out, err
		}
	}
	r, err := i.ra.Submit(ctx, actors["intake"], in)
	if err != nil {
		return out, err
	}
	r, err = i.ra.Approve(ctx, actors["approver-1"], r.ID, r.ContentHash)
	if err != nil {
		return out, err
	}
	show, err := i.ra.Show(ctx, actors["letters"], r.ID)
	if err != nil {
		return out, err
	}
	out.RequestID, out.ReferenceID, out.Serial = r.ID, show.ReferenceID.Reveal(), r.Serial
	if file == nobody {
		return out, nil
	}
	var p12 []byte
	if file == theDemo {
		p12, err = i.packOwn(key, show.Certificate.DER, terminal)
	} else {
		p12, err = i.fetch(ctx, r.ID, show.ReferenceID)
	}
	if err != nil {
		return out, err
	}
	out.P12, out.Password = filepath.Join(i.dir, "sample-"+purpose+".p12"), demoPIN
	return out, os.WriteFile(out.P12, p12, 0o600)
}

func (i *instance) packOwn(key crypto.Signer, der []byte, name string) ([]byte, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return delivery.PKCS12(key, cert, []*x509.Certificate{i.cas[issuance.G1], i.cas[issuance.Root]}, demoPIN, delivery.Options{FriendlyName: name})
}

// fetch downloads a sample as its holder would.
func (i *instance) fetch(ctx context.Context, requestID string, ref pki.Secret) ([]byte, error) {
	cookie := [32]byte{1}
	ticket, err := i.ra.PreparePickup(ctx, ra.PickupInput{RequestID: requestID, ReferenceID: ref, PIN: demoPIN, PINConfirm: demoPIN,
		CookieHash: cookie, Source: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		return nil, err
	}
	_, file, err := i.ra.PickupFile(ctx, ticket, cookie)
	return file, err
}

// seedClient makes the API client and its grant of 1,000,000, made and approved by
// two.
func (d *demo) seedClient(ctx context.Context, i *instance) error {
	const id = "demo-vendor"
	certFile, keyFile, err := i.addClient(ctx, pki.System("demo"), id, "demo vendor")
	if err != nil {
		return err
	}
	d.out.APIClient = map[string]string{"cert": certFile, "key": keyFile}
	admin, err := i.ops.Assert(ctx, "admin", "demo")
	if err != nil {
		return err
	}
	approver, err := i.ops.Assert(ctx, "approver-1", "demo")
	if err != nil {
		return err
	}
	g, err := i.ra.MakeGrant(ctx, admin, pki.Grant{ClientID: id, PerDay: 1_000_000, Total: 1_000_000, EndsAt: now().AddDate(0, 0, pki.MaxGrantDays-1)})
	if err != nil {
		return err
	}
	return i.ra.ApproveGrant(ctx, approver, g.ID, g.Hash())
}

// announce writes demo.json and prints what to try.
func (d *demo) announce(i *instance) error {
	at := func(scheme string, offset int) string {
		return fmt.Sprintf("%s://127.0.0.1:%d", scheme, d.portBase+offset)
	}
	o := &d.out
	o.Portal, o.PortalAuth, o.Console, o.API = at("https", 443), at("https", 444), at("https", 445), at("https", 446)
	o.Status, o.Mail = at("http", 80), at("http", 25)
	files := map[*string]string{&o.TLSRoot: issuance.TLS, &o.ClientRoot: issuance.Root, &o.Issuer: issuance.G1}
	names := map[string]string{issuance.TLS: "tls-root.pem", issuance.Root: "client-root.pem", issuance.G1: "issuer.pem"}
	for path, id := range files {
		*path = filepath.Join(i.dir, names[id])
		err := writeCert(*path, i.cas[id])
		if err != nil {
			return err
		}
	}
	for _, op := range demoOperators() {
		roles := make([]string, len(op.Roles))
		for n, r := range op.Roles {
			roles[n] = string(r)
		}
		o.Operators = append(o.Operators, demoOperator{Name: op.ID, Role: strings.Join(roles, ","), P12: inside(i.dir, op.File), Password: op.Password.Reveal()})
	}
	raw, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("encode demo.json: %w", err)
	}
	err = putInPlace(filepath.Join(i.dir, "demo.json"), append(raw, '\n'))
	if err != nil {
		return err
	}
	d.tell()
	return nil
}

// tell prints the table that a person follows.
func (d *demo) tell() {
	o := d.out
	d.say("")
	d.say("Inkan DEMO is running. Nothing here is a real certificate. / デモです。本物の電子証明書ではありません。")
	d.say("")
	_ = d.table([]string{"ADDRESS", "WHAT"}, 6, func(n int) []string {
		return [][]string{{o.Portal + "/p/", "everything a holder does / 手続きを選ぶ"}, {o.PortalAuth + "/p/ru", "renewal, with a certificate / 更新"},
			{o.PortalAuth + "/p/check", "which certificate is in use / 証明書の確認"}, {o.Mail, "mails / 送ったメール"}, {o.Status + "/crl/g1.crl", "status, also /ocsp / 失効情報"}, {o.API + "/api/v1/certificates", "API"}}[n]
	})
	d.say("")
	_ = d.table([]string{"SAMPLE", "REQUEST ID", "REFERENCE ID", "CODE", "TERMINAL"}, len(o.Samples), func(n int) []string {
		s := o.Samples[n]
		return []string{s.Purpose, s.RequestID, s.ReferenceID, s.HolderCode, s.Terminal}
	})
	first := o.Samples[0]
	d.say("")
	run := func(command string) string { return fmt.Sprintf("%s %s --dir %s", os.Args[0], command, d.dir) }
	d.say("Try next:")
	d.say("  1. Trust the site in your browser: %s", o.TLSRoot)
	d.say("  2. Open %s/p/rcd and type %s, %s and four digits.", o.Portal, first.RequestID, first.ReferenceID)
	for _, s := range o.Samples {
		if s.Purpose == "renew" {
			d.say("  3. Import %s (password %s) into the browser, and open %s/p/ru.", s.P12, s.Password, o.PortalAuth)
		}
	}
	d.say("  4. Apply and approve as two people, and read the IDs:")
	d.say("     R=$(%s --as intake --kind medical --code 0110119153 --terminal 会計1号機 --email clinic@example.jp | cut -d' ' -f1)", run("request submit"))
	d.say("     %s --as approver-1 --yes $R", run("request approve"))
	d.say("     %s $R", run("request show"))
	d.say("  5. Revoke, and ask the responder:")
	d.say("     %s --as officer --reason keyCompromise %s", run("revoke"), first.Serial)
	d.say("     %s %s", run("ocsp-check"), first.Serial)
	d.say("  6. Check the audit tree:")
	d.say("     %s", run("audit verify"))
	d.say("")
	d.say("Stop with Ctrl-C. Everything above is also in %s", filepath.Join(d.dir, "demo.json"))
}

// mailSink is the demo's own mail server and the page that shows what it caught.
type mailSink struct {
	address string // of its SMTP
	closers []io.Closer
}

func startMailSink(portBase int, log *slog.Logger) (*mailSink, error) {
	page, err := loopback(portBase + 25)
	if err != nil {
		return nil, err
	}
	mails, err := loopback(0)
	if err != nil {
		_ = page.Close()
		return nil, err
	}
	s := sink.New(now, log)
	web := httpServer(s.Handler(), nil, log)
	serve := func(name string, do func() error) {
		err := do()
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("mail sink ended", "part", name, "err", err)
		}
	}
	go serve("smtp", func() error { return s.Serve(mails) })
	go serve("page", func() error { return web.Serve(page) })
	return &mailSink{address: mails.Addr().String(), closers: []io.Closer{web, s}}, nil
}

func (m *mailSink) close() {
	for _, c := range m.closers {
		_ = c.Close()
	}
}

func loopback(port int) (net.Listener, error) {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, pki.E(pki.Conflict, "listen.taken").With("Zone", "mail").With("Address", address).Because(err)
	}
	return l, nil
}
