package app

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"inkan/internal/i18n"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// requestJSON is a request on the command line's JSON output.
type requestJSON struct {
	RequestID    string `json:"requestId"`
	State        string `json:"state"`
	Kind         string `json:"kind"`
	Source       string `json:"source"`
	HolderKind   string `json:"holderKind"`
	HolderCode   string `json:"holderCode"`
	TerminalName string `json:"terminalName"`
	Email        string `json:"email,omitempty"`
	ContentHash  string `json:"contentHash"`
	Alike        string `json:"looksLike,omitempty"` // requests for a terminal that looks the same
	EnteredBy    string `json:"enteredBy,omitempty"`
	CheckedBy    string `json:"checkedBy,omitempty"`
	ApprovedBy   string `json:"approvedBy,omitempty"`
	Serial       string `json:"serial,omitempty"`
	NotAfter     string `json:"notAfter,omitempty"`
	Certificate  string `json:"certificateState,omitempty"`
	RevokedFrom  string `json:"revokedFrom,omitempty"` // or on hold from; perhaps a day to come
	Download     string `json:"downloadUntil,omitempty"`
	Dispatched   string `json:"dispatchedAt,omitempty"`
	Fetched      string `json:"fetchedAt,omitempty"`
	Failure      string `json:"failure,omitempty"`
	ReferenceID  string `json:"referenceId,omitempty"`
	Pending      string `json:"referencePending,omitempty"` // code of why it cannot be read now
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func toJSON(r pki.Request) requestJSON {
	return requestJSON{RequestID: r.ID, State: string(r.State), Kind: string(r.Kind), Source: string(r.Source),
		HolderKind: string(r.Application.Holder.Kind), HolderCode: r.Application.Holder.Code, TerminalName: r.Application.TerminalName,
		Email: r.Application.Email, ContentHash: r.ContentHash, Alike: r.Alike, EnteredBy: r.EnteredBy, CheckedBy: r.CheckedBy, ApprovedBy: r.ApprovedBy,
		Serial: r.Serial, Download: stamp(r.Downloads), Dispatched: stamp(r.Dispatched), Fetched: stamp(r.FetchedAt), Failure: r.Failure}
}

// add says what became of the certificate.
func (r *requestJSON) add(c pki.Certificate) {
	r.NotAfter, r.Certificate, r.RevokedFrom = stamp(c.NotAfter), string(c.State(now())), stamp(c.EffectiveAt)
}

func (c *cli) requestCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "request", Short: "applications for certificates (申請)"}
	cmd.AddCommand(c.submitCommand(), c.listRequestsCommand(), c.showRequestCommand(), c.correctCommand(),
		c.decideRequestCommand("approve", "check or approve a request (審査・承認)", func(ctx context.Context, s *ra.Service, by pki.Actor, id, content, _ string) (pki.Request, error) {
			return s.Approve(ctx, by, id, content)
		}),
		c.decideRequestCommand("reject", "refuse a request (却下)", func(ctx context.Context, s *ra.Service, by pki.Actor, id, content, why string) (pki.Request, error) {
			return s.Reject(ctx, by, id, content, why)
		}),
		c.endRequestCommand("return", "send a request back for correction (差戻し)", (*ra.Service).Return),
		c.endRequestCommand("cancel", "withdraw a request (取消)", (*ra.Service).Cancel))
	return cmd
}

func (c *cli) submitCommand() *cobra.Command {
	var kind, code, csr string
	in := ra.Submission{Source: pki.FromOperator}
	a := &in.Application
	cmd := &cobra.Command{Use: "submit", Short: "enter an application (発行申請)"}
	c.actorFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&kind, "kind", "", "kind of holder: medical, dental, pharmacy, visiting, insurer, checkup, agent, vendor")
	f.StringVar(&code, "code", "", "institution code (医療機関コード)")
	f.StringVar(&a.TerminalName, "terminal", "", "name of the terminal (端末名称)")
	f.StringVar(&a.Email, "email", "", "mail address of the institution")
	f.StringVar(&a.MaintenanceEmail, "maintenance-email", "", "second address, for reminders only")
	f.StringVar(&a.Department, "department", "", "department (担当部署名)")
	f.StringVar(&a.Phone, "phone", "", "telephone of the department")
	f.IntVar(&a.PaymentMethod, "payment", 1, "1 deducted from payments, 2 by invoice")
	f.StringVar(&csr, "csr", "", "file with a certificate signing request; without it the CA makes the key")
	f.StringVar(&in.Language, "language", "ja", "language of mails: ja or en")
	f.BoolVar(&c.json, "json", false, "print JSON")
	for _, name := range []string{"kind", "code", "terminal", "email"} {
		_ = cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(i18n.Languages, in.Language) {
			return &usageError{trimRoot(cmd), fmt.Errorf("--language %q: ja or en", in.Language)}
		}
		holder, err := pki.ParseHolder(pki.HolderKind(kind), code)
		if err != nil {
			return err
		}
		a.Holder = holder
		if csr != "" {
			a.CSR, err = readCSR(csr)
			if err != nil {
				return err
			}
		}
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, a.Hash())
			if err != nil {
				return err
			}
			r, err := i.ra.Submit(ctx, by, in)
			if err != nil {
				return err
			}
			return c.showRequest(ctx, i, r, "received; another operator approves it with: "+c.commandLine("request approve --as OPERATOR "+r.ID))
		})
	}
	return cmd
}

// maxCSRFile bounds a CSR file before it is decoded.
const maxCSRFile = 64 << 10

func readCSR(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, pki.E(pki.Invalid, "file.unreadable").With("File", path).Because(err)
	}
	if len(raw) > maxCSRFile {
		return nil, pki.E(pki.Invalid, "csr.size")
	}
	block, _ := pem.Decode(bytes.TrimSpace(raw))
	if block != nil {
		raw = block.Bytes
	}
	_, err = issuance.ParseCSR(raw)
	return raw, err
}

func (c *cli) showRequest(ctx context.Context, i *instance, r pki.Request, next string) error {
	if c.json {
		out, err := i.requests(ctx, r)
		if err != nil {
			return err
		}
		return c.print(out[0])
	}
	c.say("%s  %s", r.ID, next)
	return nil
}

// requests gives requests for JSON, with the end of the certificates they have.
func (i *instance) requests(ctx context.Context, all ...pki.Request) ([]requestJSON, error) {
	out := make([]requestJSON, len(all))
	err := i.db.View(ctx, func(tx *store.Tx) error {
		for n, r := range all {
			out[n] = toJSON(r)
			if r.Serial == "" {
				continue
			}
			cert, err := tx.Certificate(r.Serial)
			if err != nil {
				return err
			}
			out[n].add(cert)
		}
		return nil
	})
	return out, err
}

// commandLine writes a command as the person would type it here.
func (c *cli) commandLine(rest string) string {
	return os.Args[0] + " " + strings.Replace(rest, " --as", " --dir "+c.dir+" --as", 1)
}

// requestStates are what --state takes.
var requestStates = []pki.RequestState{pki.Received, pki.Reviewing, pki.Returned, pki.Approved, pki.Generating, pki.Issuing, pki.Issued, pki.Rejected, pki.Cancelled, pki.Failed}

func (c *cli) listRequestsCommand() *cobra.Command {
	var state, code string
	f := store.RequestFilter{}
	cmd := &cobra.Command{Use: "list", Short: "list requests", RunE: func(cmd *cobra.Command, _ []string) error {
		if state != "" {
			if !slices.Contains(requestStates, pki.RequestState(state)) {
				return &usageError{trimRoot(cmd), fmt.Errorf("--state %q: one of %s", state, strings.Trim(fmt.Sprint(requestStates), "[]"))}
			}
			f.States = []pki.RequestState{pki.RequestState(state)}
		}
		f.HolderCode = code
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.reader(ctx, i, cmd)
			if err != nil {
				return err
			}
			all, err := i.ra.List(ctx, by, f)
			if err != nil {
				return err
			}
			out, err := i.requests(ctx, all...)
			if err != nil {
				return err
			}
			if c.json {
				return c.print(out)
			}
			err = c.table([]string{"REQUEST", "STATE", "KIND", "CODE", "TERMINAL", "SERIAL", "LOOKS LIKE"}, len(out), func(n int) []string {
				r := out[n]
				return []string{r.RequestID, r.State, r.HolderKind, r.HolderCode, r.TerminalName, r.Serial, r.Alike}
			})
			if err == nil && len(out) == f.Limit {
				c.more(out[len(out)-1].RequestID)
			}
			return err
		})
	}}
	c.readerFlags(cmd)
	cmd.Flags().StringVar(&state, "state", "", "only this state")
	cmd.Flags().StringVar(&code, "code", "", "only this institution")
	cmd.Flags().StringVar(&f.After, "after", "", "only requests after this ID (next page)")
	limitFlag(cmd, &f.Limit)
	return cmd
}

func (c *cli) showRequestCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "show a request", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.reader(ctx, i, cmd)
			if err != nil {
				return err
			}
			d, err := i.ra.Look(ctx, by, args[0])
			if err != nil {
				return err
			}
			out := toJSON(d.Request)
			if d.Letter {
				out.ReferenceID, out.Pending, err = c.reference(ctx, i, by, args[0])
			}
			if err != nil {
				return err
			}
			if d.Certificate != nil {
				out.add(*d.Certificate)
			}
			return c.print(out)
		})
	}}
	c.readerFlags(cmd)
	return cmd
}

// reference reads the reference ID of a letter. Where the signer, which opens it, does
// not answer, it says so and gives the code: the rest is shown all the same.
func (c *cli) reference(ctx context.Context, i *instance, by pki.Actor, id string) (string, string, error) {
	stop, err := i.ensureSigner(ctx)
	if err == nil {
		defer stop()
		var d ra.Detail
		d, err = i.ra.Show(ctx, by, id)
		if err == nil {
			return d.ReferenceID.Reveal(), "", nil
		}
	}
	if !waits(err) {
		return "", "", err
	}
	c.fail(err)
	return "", waitCode(err), nil
}

// decideRequestCommand is one person's decision about the content of a request. Its
// statement names the content that was shown (invariant 8, threat AP7).
func (c *cli) decideRequestCommand(name, short string, do func(ctx context.Context, s *ra.Service, by pki.Actor, id, content, why string) (pki.Request, error)) *cobra.Command {
	var d decision
	var why string
	cmd := &cobra.Command{Use: name + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, name == "approve", func(ctx context.Context, i *instance) error {
			content, err := c.shown(ctx, i, cmd, args[0], d, func(by pki.Actor) ([]fact, string, error) {
				seen, err := i.ra.Look(ctx, by, args[0])
				return requestFacts(seen.Request), seen.Request.ContentHash, err
			})
			if err != nil {
				return err
			}
			by, err := c.actor(ctx, i, cmd, strings.TrimSpace(args[0]+" "+content+" "+why))
			if err != nil {
				return err
			}
			r, err := do(ctx, i.ra, by, args[0], content, why)
			if err != nil {
				return err
			}
			next := string(r.State)
			if r.State == pki.Reviewing {
				next = "checked; a second operator approves it with: " + c.commandLine("request approve --as OPERATOR "+r.ID)
			}
			return c.showRequest(ctx, i, r, next)
		})
	}}
	c.actorFlags(cmd)
	d.flags(cmd)
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	if name != "approve" {
		cmd.Flags().StringVar(&why, "why", "", "reason, for the record")
	}
	return cmd
}

// endRequestCommand takes a request back, whatever its content is.
func (c *cli) endRequestCommand(name, short string, do func(s *ra.Service, ctx context.Context, by pki.Actor, id, why string) (pki.Request, error)) *cobra.Command {
	var why string
	cmd := &cobra.Command{Use: name + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, args[0]+" "+why)
			if err != nil {
				return err
			}
			r, err := do(i.ra, ctx, by, args[0], why)
			if err != nil {
				return err
			}
			return c.showRequest(ctx, i, r, string(r.State))
		})
	}}
	c.actorFlags(cmd)
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	cmd.Flags().StringVar(&why, "why", "", "reason, for the record")
	return cmd
}

// readerFlags are the flags of listing commands. In a demo nobody needs to be named
// to look.
func (c *cli) readerFlags(cmd *cobra.Command) {
	c.actorFlags(cmd)
	cmd.Flags().Lookup("as").Annotations = nil // not required
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
}

// reader is who looks: in a demo without --as a guest.
func (c *cli) reader(ctx context.Context, i *instance, cmd *cobra.Command) (pki.Actor, error) {
	if c.as == "" && i.ops.Asserted {
		return i.ops.Guest()
	}
	if c.as == "" {
		return pki.Actor{}, &usageError{trimRoot(cmd), errors.New("--as is needed to look, perhaps with --key; only a demo shows itself to anybody")}
	}
	return c.actor(ctx, i, cmd, "")
}

func (c *cli) letterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "letter", Short: "letters with the IDs (発行通知書)"}
	dispatch := c.onRequest("dispatch", "record that the letter left (差出): its IDs work from now on", false,
		func(ctx context.Context, i *instance, by pki.Actor, id string) (string, error) {
			r, err := i.ra.Dispatch(ctx, by, id)
			return "dispatched " + stamp(r.Dispatched), err
		})
	var until string
	extend := c.onRequest("extend", "move the download deadline (ダウンロード期限の延長)", true,
		func(ctx context.Context, i *instance, by pki.Actor, id string) (string, error) {
			day, err := parseDay(until)
			if err != nil {
				return "", err
			}
			r, err := i.ra.Extend(ctx, by, id, day)
			return "may be fetched until " + stamp(r.Downloads), err
		})
	extend.Flags().StringVar(&until, "until", "", "last day, YYYY-MM-DD in Japan")
	_ = extend.MarkFlagRequired("until")
	cmd.AddCommand(dispatch, extend)
	return cmd
}

// onRequest is an act on one request that prints one line.
func (c *cli) onRequest(name, short string, needSigner bool, do func(ctx context.Context, i *instance, by pki.Actor, id string) (string, error)) *cobra.Command {
	cmd := &cobra.Command{Use: name + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, needSigner, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, args[0])
			if err != nil {
				return err
			}
			done, err := do(ctx, i, by, args[0])
			if err != nil {
				return err
			}
			c.say("%s  %s", args[0], done)
			return nil
		})
	}}
	c.actorFlags(cmd)
	return cmd
}
